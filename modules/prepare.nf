/*
 * PREPARE: checks a data set's voxels, splits it into pool and test set, resamples, plans and preprocesses it. Once per data
 * set, after CHECK.
 */
include { file_option ; labels_of ; memory_of ; options ; quoted ; thread_limits } from '../functions/tasks.nf'

process PREPARE {
    tag "${dataset}"
    label 'cpu'
    resourceLabels { labels_of(task, [dataset: dataset]) }
    memory { memory_of(task, 8, need, task.cpus) }

    input:
    // name; [name, configuration, ...]; raw folder; table of patients or []; folder of free masks or [];
    // digest of the folders' files; the user's plans or []; plans to keep to or []; checkpoints that trainings start from, if any; [bytes, each] of memory
    tuple val(dataset), val(settings), path(raw, stageAs: 'raw'), path(groups, stageAs: 'groups.csv'), path(free, stageAs: 'free'), val(state), path(plans, stageAs: 'plans.json'), path(before, stageAs: 'before/plans.json'), path(weights, stageAs: 'weights_?'), val(need)
    val code

    output:
    // name, prepared folder, whole masks of the pool, whole masks of the test set
    tuple val(dataset), path('prepared'), path("oracle_${dataset}.h5"), path("reference_${dataset}.h5"), emit: prepared
    path "plans_${dataset}.json", optional: true // the first plans that people are handed out packages by, to keep to

    script:
    """
    # code ${code}, data ${state}
    ${thread_limits(1)}
    prepare.py --input ${raw} ${options(settings)} --workers ${task.cpus} ${file_option('--groups', groups)} ${file_option('--free-masks', free)} \\
        ${file_option('--plans', plans)} ${file_option('--plans-before', before)} ${settings.people && !before ? "--kept-plans plans_${dataset}.json --state ${quoted(state)}" : ''} \\
        --out prepared --oracle oracle_${dataset}.h5 --reference reference_${dataset}.h5
    """

    stub:
    """
    # code ${code}, data ${state}
    mkdir -p prepared
    touch prepared/dataset.json prepared/cases.csv oracle_${dataset}.h5 reference_${dataset}.h5
    ${settings.people && !before ? "echo '{\"state\": \"${state}\"}' > plans_${dataset}.json" : ''}
    """
}
