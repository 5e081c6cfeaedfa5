/*
 * RECEIVE: holds what people delivered against a query. Where the labels are complete they go on to ANNOTATE; else a word to
 * the topic 'labels' says for which node the loop waits.
 */
include { file_option ; options ; thread_limits } from '../functions/shell.nf'
include { labels_of ; where } from '../functions/labels.nf'
include { memory_of } from '../functions/resources.nf'

process RECEIVE {
    tag "${node.id}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(trajectory)) }
    memory { memory_of(task, 4, need) }

    input:
    // trajectory; node that the labels make; [node, partial]; prepared folder; query; patches for refused ones or []; folder of
    // deliveries or [], with the state of its files; table of the package, of tasks where it is just handed out, else of places, or []; [bytes, each] of memory
    tuple val(trajectory), val(node), val(settings), path(prepared), path(query, stageAs: 'query.csv'), path(reserve, stageAs: 'reserve.csv'), path(deliveries, stageAs: 'deliveries'), val(state), path(table, stageAs: 'package/*'), val(need)
    val code

    output:
    path "${node.id}/{query,reserve,deliveries}.csv" // the patches that are handed out now, those for refused ones, what has become of each
    tuple val(trajectory), path("answered/${node.id}.csv"), path("answered/${node.id}.h5"), emit: answers, optional: true // trajectory, patches that are labelled, their masks
    tuple val(node), path("waiting/${node.id}.csv"), topic: 'labels', optional: true // node, what is missing
    path "${node.id}/received/*", optional: true

    script:
    """
    # code ${code}
    # delivered ${state}
    ${thread_limits(1)}
    mkdir ${node.id}
    cp ${reserve ? 'query.csv reserve.csv' : 'query.csv'} ${node.id}
    receive.py --prepared ${prepared} --query query.csv ${file_option('--reserve', reserve)} ${table && table.name == 'patches_mm.csv' ? file_option('--places', table) : ''} ${file_option('--deliveries', deliveries)} ${options(settings)} \\
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
    """
}
