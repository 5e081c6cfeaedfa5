/*
 * What the tasks of PREFLIGHT share: what they are told of themselves, and what becomes of one that fails.
 */

include { quoted } from './tasks.nf'

// A task's settings, and what it is told of itself. Without the directive `scratch` there is no such folder to try.
def asked(settings, task) {
    settings + [
        checks: settings.checks.findAll { check -> check != 'scratch folder' || task.scratch }.join(','),
        cores: task.cpus,
        memory: task.memory?.toBytes(),
        gpus: task.accelerator?.request,
        executor: task.executor,
    ]
}

// Printed first of all, in bash alone: it shows that the task has started, and in what.
def start_lines(task) {
    def place = [task.executor ?: 'local', workflow.containerEngine, task.container].findAll { text -> text }.join(', ')
    "printf 'preflight node: %s\\npreflight folder: %s\\npreflight place: %s\\n' \"\$(uname -n)\" \"\$(dirname \"\$0\")\" ${quoted(place)}"
}

// The task's work folder: the current one may be a scratch folder. In a bucket there is none.
def work_option(seen) {
    seen.marker.toUriString().contains('://') ? '' : '--work "$(dirname "$0")"'
}

// Called when a task has failed: what is known of it is kept, and the others go on. But Nextflow 25.04 would wait for ever
// for a task that could not be submitted and is ignored: that ends the run. Such a task has left no exit status behind.
def note_failure(seen, task) {
    def ended = task.workDir?.resolve('.exitcode')?.exists()
    seen.tasks[task.process.tokenize(':').last()] = [
        exit: task.exitStatus,
        folder: task.workDir,
        at: System.currentTimeMillis(),
        executor: task.executor ?: 'local',
        fatal: !ended,
    ]
    ended ? 'ignore' : 'finish'
}
