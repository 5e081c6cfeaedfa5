/*
 * What a site's configuration must not ask for, and what the place of the work folder does not allow, one line each.
 */
include { uncertainty_format } from './published.nf'

def site_errors(values) {
    passed_over_errors() + far_errors(values, workflow.workDir.toUriString())
}

// A failed task that is passed over (errorStrategy 'ignore') never sends its labels, and the loop would wait for them for
// ever. The script is not told of a directive's value before the task has failed, so the configuration's text is read:
// the files that Nextflow names, and what they include by a plain name.
def passed_over_errors() {
    def lines = workflow.configFiles.unique().collectMany { path -> configuration_lines(path) }
    def option = workflow.commandLine =~ /-process\.errorStrategy[ =]\W?ignore/ ? ['the command line'] : []
    (lines.findAll { _place, line -> line =~ /(?i)['"]ignore['"]/ }.collect { place, _line -> place } + option).unique().collect { place ->
        "errorStrategy 'ignore' in ${place}: the loop would wait for ever for the labels of a task that is passed over; use 'retry' or 'finish'".toString()
    }
}

// [file and number, line without its remark] of a configuration file and of those that it includes.
def configuration_lines(path) {
    path.readLines().withIndex().collectMany { line, i ->
        def code = line.replaceFirst(/(^|\s)\/\/.*/, '')
        def included = (code =~ /includeConfig\s*\(?\s*['"]([^'"$]+)['"]/).collect { match -> path.resolveSibling(match[1]) }
        [["${path}, line ${i + 1}".toString(), code]] + included.findAll { inner -> inner.exists() }.collectMany { inner -> configuration_lines(inner) }
    }
}

// The checkpoint store is mounted by all tasks, so it is no bucket. Where the work folder is in one, tasks run elsewhere:
// a path that starts from the launch folder is none of theirs, and results there may go with the machine.
def far_errors(values, work) {
    def far = work.contains('://')
    def (outdir, store) = [values.outdir ?: '/', values.checkpoint_store ?: '/']
    (far && !outdir.startsWith('/') && !outdir.contains('://')
        ? ["--outdir ${outdir}: the work folder is ${work}; give a folder there too, or a whole path"] : []) +
        (far && !store.startsWith('/') || store.contains('://')
        ? ["--checkpoint_store ${store}: the path of a file system that all tasks mount is wanted, such as /mnt/shared/checkpoints"] : []) +
        // Trainings write there as they run, and containers mount it.
        (values.tensorboard && outdir =~ /[*?\[\]{}:,]/
        ? ["--tensorboard: --outdir ${outdir} must be a path of a file system, without any of * ? [ ] { } : , in it; leave --tensorboard out, or give another"] : [])
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
