/*
 * TRAIN: one fold of a node's ensemble. Checkpoints are kept in a store outside the work folder under the digest of
 * what they rest on, so that a training that was stopped goes on and a finished one returns at once.
 */
include { file_option ; gpu_share ; labels_of ; memory_of ; options ; tensorboard_option ; thread_limits ; where } from '../functions/tasks.nf'

process TRAIN {
    tag "${node.id} fold ${fold}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node) + [fold: fold]) }
    memory { memory_of(task, 8, need) }

    input:
    // node; fold from 0; [node, seed, cycle, folds, epochs, ..., store]; prepared folder; label masks; the user's trainer or
    // []; given folds or []; the user's weights or []; folder of the fold to go on from or []; [bytes, each] of memory
    tuple val(node), val(fold), val(settings), path(prepared), path(labels), path(trainer_file, stageAs: 'trainers/*'), path(folds_file, stageAs: 'folds_file'), path(weights, stageAs: 'weights/*'), path(before, stageAs: 'before'), val(need)
    val code

    output:
    tuple val(node), val(fold), path("${node.id}/fold_${fold}"), emit: folds, topic: 'trained' // node, fold, folder with checkpoint and curve
    path "${node.id}-f${fold}.json", emit: curves // training curve, for the results and the tables

    script:
    """
    # A scheduler's warning is for the training, which saves its state: this shell, the container's first process, stays.
    trap '' TERM USR2
    ${thread_limits(task.cpus)}
    ${gpu_share(task)}
    train.py --prepared ${prepared} --labels ${labels} --fold ${fold} ${options(settings)} --threads ${task.cpus} --code ${code} \\
        ${file_option('--trainer-file', trainer_file)} ${file_option('--folds-file', folds_file)} \\
        ${file_option('--initial-weights', weights)} ${file_option('--before', before)} ${tensorboard_option(task)} --out ${node.id}/fold_${fold}
    cp ${node.id}/fold_${fold}/training.json ${node.id}-f${fold}.json
    """

    stub:
    """
    # code ${code}
    mkdir -p ${node.id}/fold_${fold}
    touch ${node.id}/fold_${fold}/checkpoint.pth ${node.id}/fold_${fold}/training.json ${node.id}-f${fold}.json
    """
}
