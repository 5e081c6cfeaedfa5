/*
 * CLEANUP (--cleanup_work): uncertainty maps are by far the largest files in the work folder, and nothing but queries and
 * their pictures read them. When all that read a file have ended it is emptied: it keeps name, size and times, by which
 * -resume knows it, but takes no room on the disk. (core/uncertainty.py tells a task that runs again what to do.)
 */

workflow CLEANUP {
    take:
    read // [maps that a query (and its pictures) has read, how many queries read them]

    main:
    read.map { files, readers -> [groupKey(files, readers), files] }
        .groupTuple()
        .subscribe { _key, lists -> lists[0].each { path -> empty_in_place(path) } }
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
