// A folder of classes as a jar: Pack.groovy FOLDER JAR. Java keeps no ready-made classes of a folder (setup/nextflow.sh).
def (folder, jar) = args.collect { path -> new File(path) }
new java.util.jar.JarOutputStream(jar.newOutputStream()).withCloseable { out ->
    folder.eachFileRecurse(groovy.io.FileType.FILES) { file ->
        out.putNextEntry(new java.util.zip.ZipEntry(folder.toURI().relativize(file.toURI()).path))
        out << file.bytes
    }
}
