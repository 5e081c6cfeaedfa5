/*
 * RECEIVE: holds what people delivered against a query. Where the labels are complete they go on to ANNOTATE; else a word to
 * the topic 'labels' says for which node the loop waits.
 */
include { file_option ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process RECEIVE {
    tag "${node.id}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(trajectory)) }
    memory { memory_of(task, 4, need) }

    input:
    // trajectory; node that the labels make; [node, partial, accept_outside, disagreement, annotator]; prepared folder; query; patches for refused
    // ones or []; folder of deliveries or [], with the state of its files; tables of the package; [bytes, each] of memory
    tuple val(trajectory), val(node), val(settings), path(prepared), path(query, stageAs: 'query.csv'), path(reserve, stageAs: 'reserve.csv'), path(deliveries, stageAs: 'deliveries'), val(state), path(tables, stageAs: 'package/*'), val(need)
    val code

    output:
    path "${node.id}/{query,reserve,deliveries}.csv" // the patches that are handed out now, those for refused ones, what has become of each
    tuple val(trajectory), path("answered/${node.id}.csv"), path("answered/${node.id}.h5"), emit: answers, optional: true // trajectory, patches that are labelled, their masks
    path "agreement/${node.id}.csv", emit: agreement, optional: true // how well people agree who read the same patches
    tuple val(node), path("waiting/${node.id}.csv"), topic: 'labels', optional: true // node, what is missing
    path "${node.id}/received/*", optional: true

    script:
    def known = [tables].flatten().collectEntries { path -> [path.toString().tokenize('/').last(), path] }
    def twice = known['double_read.csv'] ?: []
    def agreement = twice || settings.disagreement ? "--agreement agreement/${node.id}.csv" : ''
    """
    # code ${code}
    # delivered ${state}
    ${thread_limits(1)}
    mkdir ${node.id}
    cp ${reserve ? 'query.csv reserve.csv' : 'query.csv'} ${node.id}
    receive.py --prepared ${prepared} --query query.csv ${file_option('--reserve', reserve)} ${file_option('--places', known['patches_mm.csv'] ?: [])} \\
        ${file_option('--deliveries', deliveries)} ${options(settings)} ${file_option('--double-read', twice)} ${agreement} \\
        --table ${node.id}/deliveries.csv --keep ${node.id}/received \\
        --answered answered/${node.id}.csv --labels answered/${node.id}.h5 --waiting waiting/${node.id}.csv
    """

    stub:
    """
    # code ${code}
    # delivered ${state}
    mkdir -p ${node.id} answered waiting
    touch ${node.id}/query.csv ${node.id}/deliveries.csv ${reserve ? "${node.id}/reserve.csv" : ''}
    ${deliveries ? "touch answered/${node.id}.csv answered/${node.id}.h5" : "touch waiting/${node.id}.csv"}
    ${settings.disagreement ? "mkdir agreement && touch agreement/${node.id}.csv" : ''}
    """
}
