/*
 * PREFLIGHT_PYTHON: what a task of the label cpu_low finds: packages, cores and memory, network.
 */
include { asked ; note_failure ; start_lines ; work_option } from '../functions/preflight_task.nf'
include { options } from '../functions/tasks.nf'

process PREFLIGHT_PYTHON {
    tag 'cpu_low'
    label 'cpu_low'
    cache false
    errorStrategy { note_failure(seen, task) }

    input:
    val seen
    val settings // [checks, token, device, store, engine]
    path lock // containers/requirements.txt

    output:
    stdout // where it runs, and a line of JSON for each finding

    script:
    """
    ${start_lines(task)}
    preflight.py ${options(asked(settings, task))} ${work_option(seen)} --lock ${lock}
    """

    stub:
    """
    ${start_lines(task)}
    """
}
