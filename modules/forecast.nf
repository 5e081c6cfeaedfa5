/*
 * FORECAST: what a plan would take, in tasks, on disk, in GPU memory and in time. Nextflow's own machine runs it.
 */
include { file_option ; options } from '../functions/tasks.nf'

process FORECAST {
    tag 'all'
    label 'cpu_low'
    executor 'local'
    memory 2.GB
    cache false

    input:
    path plan // plan.json
    val datasets // names of the data sets that are there
    path raw, stageAs: 'raw_?' // their raw folders, in this order
    path trace, stageAs: 'trace/*' // trace of an earlier run, folder of traces, or []
    path measured, stageAs: 'measured/*' // preflight.json, or []
    path plans, stageAs: 'plans_?' // the users' plans, if any
    path strategy_file, stageAs: 'strategies/*' // the user's strategies, or []
    val settings // [plan_trace and plan_from as they were given, plan_minutes, plan_gpus, plans (of which data sets), ...]

    output:
    stdout // the text for the user
    path 'errors.txt' // or what is wrong, in lines that begin with ERROR

    script:
    def folders = [datasets, raw instanceof List ? raw : [raw]].transpose().collectEntries { dataset, folder -> [dataset, folder.name] }
    """
    forecast.py --plan ${plan} ${options(settings)} ${file_option('--trace', trace)} ${file_option('--measured', measured)} ${file_option('--strategy-file', strategy_file)} \\
        ${folders.collect { dataset, folder -> options([raw: "${folder}=${dataset}"]) }.join(' ')} 2> errors.txt \\
        || { cat errors.txt >&2; grep -q '^ERROR: ' errors.txt; }
    """

    stub:
    """
    echo 'Nothing is counted in a stub.'
    touch errors.txt
    """
}
