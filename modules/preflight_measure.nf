/*
 * PREFLIGHT_MEASURE: some iterations of each kind of training in a plan, as TRAIN would run them, on a few cases of each data
 * set, against the clock (bin/nnactive_nf/measure/).
 */
include { note_failure ; start_lines } from '../functions/preflight_task.nf'
include { file_option ; gpu_share ; memory_of ; options ; thread_limits } from '../functions/tasks.nf'

process PREFLIGHT_MEASURE {
    tag 'trainings'
    label 'gpu'
    memory { memory_of(task, 8, need) }
    cache false
    errorStrategy { note_failure(seen, task) }

    input:
    val seen
    val settings // [device, plans (of which data sets)]
    path plan // plan.json
    val datasets // names of the data sets
    path raw, stageAs: 'raw_?' // their raw folders, in this order
    path plans, stageAs: 'plans_?' // the users' plans, if any
    path trainer_file, stageAs: 'trainers/*' // the user's trainer, or []
    val need // [bytes, each] of memory

    output:
    stdout // where it runs, and a line of JSON for each kind of training
    path 'preflight.json', optional: true // what was measured, for --plan_from

    script:
    def folders = [datasets, raw instanceof List ? raw : [raw]].transpose().collectEntries { dataset, folder -> [dataset, folder.name] }
    """
    ${start_lines(task)}
    ${thread_limits(task.cpus)}
    ${gpu_share(task)}
    measure.py --plan ${plan} ${options(settings + [threads: task.cpus, gpus: task.accelerator?.request])} \\
        ${folders.collect { dataset, folder -> options([raw: "${folder}=${dataset}"]) }.join(' ')} ${file_option('--trainer-file', trainer_file)} \\
        --out preflight.json
    """

    stub:
    """
    ${start_lines(task)}
    touch preflight.json
    """
}
