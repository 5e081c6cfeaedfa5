/*
 * PREFLIGHT_FOLDERS: what a task of the label cpu finds: cores and memory, its folders, the data sets.
 */
include { asked ; note_failure ; start_lines ; work_option } from '../functions/preflight_task.nf'
include { memory_of ; options } from '../functions/tasks.nf'

process PREFLIGHT_FOLDERS {
    tag 'cpu'
    label 'cpu'
    memory { memory_of(task, 8) } // what tasks of this label ask for at least
    cache false
    errorStrategy { note_failure(seen, task) }

    input:
    val seen
    val settings // [checks, token, device, store, engine]
    path marker // written by the launcher
    path inputs, stageAs: 'input_*' // data sets, or []

    output:
    stdout // where it runs, and a line of JSON for each finding

    script:
    """
    ${start_lines(task)}
    preflight.py ${options(asked(settings, task))} ${work_option(seen)} --marker ${marker} ${inputs}
    """

    stub:
    """
    ${start_lines(task)}
    """
}
