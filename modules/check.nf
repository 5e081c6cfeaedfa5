/*
 * CHECK: all that can be told of a data set and the settings for it without a voxel being read: files, patients, grids,
 * sizes, strategies' options. Once per data set, before PREPARE; every later task asks for memory by the sizes found.
 */
include { file_option ; labels_of ; options ; thread_limits } from '../functions/tasks.nf'

process CHECK {
    tag "${dataset}"
    label 'cpu_low'
    resourceLabels { labels_of(task, [dataset: dataset]) }

    input:
    // name; [name, shown, configuration, ..., rows]; raw folder; table of patients or []; folder of free masks or [];
    // digest of the folders' files; the user's strategies or []; the user's trainer or []; tables of first patches and of
    // folds, plans and checkpoints to start from, if any
    tuple val(dataset), val(settings), path(raw, stageAs: 'raw'), path(groups, stageAs: 'groups.csv'), path(free, stageAs: 'free'), val(state), path(strategy_file, stageAs: 'strategies/*'), path(trainer_file, stageAs: 'trainers/*'), path(given, stageAs: 'given_?')
    val code

    output:
    tuple val(dataset), path("check_${dataset}.json") // name, sizes

    script:
    """
    # code ${code}, data ${state}
    ${thread_limits(1)}
    check.py --input ${raw} ${options(settings)} ${file_option('--groups', groups)} ${file_option('--free-masks', free)} \\
        ${file_option('--strategy-file', strategy_file)} ${file_option('--trainer-file', trainer_file)} --out check_${dataset}.json
    """

    stub:
    """
    # code ${code}, data ${state}
    touch check_${dataset}.json
    """
}
