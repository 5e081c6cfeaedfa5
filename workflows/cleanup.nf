/*
 * CLEANUP (--cleanup_work): uncertainty maps are by far the largest files in the work folder, and nothing but queries and
 * their pictures read them. When all that read a file have ended it is emptied: it keeps name, size and times, by which
 * -resume knows it, but takes no room on the disk. (core/uncertainty.py tells a task that runs again what to do.)
 */
include { uncertainty_format } from '../functions/exports.nf'

workflow CLEANUP {
    take:
    read // [maps that a query (and its pictures) has read, how many queries read them]

    main:
    read.map { files, readers -> [groupKey(files, readers), files] }
        .groupTuple()
        .subscribe { _key, lists -> lists[0].each { path -> empty_in_place(path) } }
}

// What does not go together with --cleanup_work, one line each.
def cleanup_errors(values) {
    if( !values.cleanup_work )
        return []
    def place = workflow.workDir
    def local = place.fileSystem == java.nio.file.FileSystems.getDefault()
    (local ? [] : ["--cleanup_work: the work folder ${place.toUriString()} is no folder of this machine's; leave it out, and let the store's own rules delete old files"]) +
        (uncertainty_format(values) ? ['--cleanup_work: it empties the maps that --publish_uncertainty wants to keep; leave one of them out'] : [])
}

// A file of the same name, size and time with a hole for its content. It is made beside and renamed, so that there is
// always a whole one, and other names of the old file (hard links) keep their content; the folder's time stays too.
def empty_in_place(path) {
    def time = java.nio.file.Files.getLastModifiedTime(path)
    def time_of_folder = java.nio.file.Files.getLastModifiedTime(path.parent)
    def beside = path.resolveSibling(".${path.name}.empty")
    try {
        def file = new java.io.RandomAccessFile(beside.toFile(), 'rw')
        file.setLength(java.nio.file.Files.size(path))
        file.close()
        java.nio.file.Files.setLastModifiedTime(beside, time)
        java.nio.file.Files.move(beside, path, java.nio.file.StandardCopyOption.ATOMIC_MOVE)
        java.nio.file.Files.setLastModifiedTime(path.parent, time_of_folder)
    }
    catch( java.io.IOException error ) {
        log.warn("--cleanup_work: ${path} could not be emptied (${error.message})")
    }
}
