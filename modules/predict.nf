/*
 * PREDICT: uncertainty maps of one shard of the pool, from all folds of a node's ensemble.
 */
include { options ; thread_limits } from '../functions/shell.nf'
include { labels_of ; where } from '../functions/labels.nf'
include { memory_of } from '../functions/resources.nf'

process PREDICT {
    tag "${node.id} shard ${shard}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node) + [shard: shard]) }
    memory { memory_of(task, 8, need, 'fold_probability' in settings.maps.tokenize(',') ? folds.size() : 0) }

    input:
    // node; shard from 0; [node, dataset, cycle, shards, maps, tile_step, device]; prepared folder; folders of folds; [bytes, each] of memory
    tuple val(node), val(shard), val(settings), path(prepared), path(folds), val(need)
    val code

    output:
    tuple val(node), path("${node.id}/uncertainty_${shard}.h5") // node, maps of the shard's cases

    script:
    """
    # code ${code}
    ${thread_limits(task.cpus)}
    predict.py --prepared ${prepared} --shard ${shard} ${options(settings)} --threads ${task.cpus} \\
        --out ${node.id}/uncertainty_${shard}.h5 ${folds}
    """

    stub:
    """
    # code ${code}
    mkdir ${node.id}
    touch ${node.id}/uncertainty_${shard}.h5
    """
}
