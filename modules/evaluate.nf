/*
 * EVALUATE: a node's ensemble on the test set, or without one (people label), each fold on the patches of other folds.
 */
include { file_option ; gpu_share ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process EVALUATE {
    tag "${node.id}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node)) }
    memory { memory_of(task, 8, need) }

    input:
    // node; [node, dataset, ...]; prepared folder; whole masks of the test set, or []; label masks where there is no test
    // set, or []; folders of folds; the user's trainer or []; [bytes, each] of memory
    tuple val(node), val(settings), path(prepared), path(reference), path(labels, stageAs: 'labels/*'), path(folds), path(trainer_file, stageAs: 'trainers/*'), val(need)
    val code

    output:
    tuple val(node), path("${node.id}.json"), emit: metrics // node, metrics per case and class
    path "predictions/${node.id}/test/*", optional: true, emit: predictions // segmentations, where they are asked for

    script:
    """
    # code ${code}
    ${thread_limits(task.cpus)}
    ${gpu_share(task)}
    evaluate.py --prepared ${prepared} ${file_option('--reference', reference)} ${file_option('--labels', labels)} \\
        ${options(settings)} --threads ${task.cpus} ${file_option('--trainer-file', trainer_file)} --out ${node.id}.json ${folds}
    """

    stub:
    """
    # code ${code}
    touch ${node.id}.json
    ${settings.predictions ? "mkdir -p ${settings.predictions} && touch ${settings.predictions}/case" : ''}
    """
}
