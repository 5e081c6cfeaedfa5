/*
 * ANNOTATE: adds the labels of a query's patches to those that were there. The loop is closed here: active_learning.nf
 * reads the topic 'labels' back.
 */
include { file_option ; labels_of ; memory_of ; options ; where } from '../functions/tasks.nf'

process ANNOTATE {
    tag "${node.id}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(node)) }
    memory { memory_of(task, 4, need) }

    input:
    // node that the labels make; [node, cycle, strategy, free_background, accept_outside]; prepared folder; oracle; query, or [] for the whole pool; labels
    // so far or []; [bytes, each] of memory. People's masks have the name of what is made of them, so they get a folder
    tuple val(node), val(settings), path(prepared), path(oracle, stageAs: 'oracle/*'), path(query), path(labels, stageAs: 'before/*'), val(need)
    val code

    output:
    tuple val(node), path("${node.id}.h5"), topic: 'labels' // node, label masks

    script:
    """
    # code ${code}
    annotate.py --prepared ${prepared} --oracle ${oracle} ${file_option('--query', query)} ${options(settings)} \\
        ${file_option('--labels', labels)} --out ${node.id}.h5
    """

    stub:
    """
    # code ${code}
    touch ${node.id}.h5
    """
}
