/*
 * PREDICT: uncertainty maps of one shard of the pool, from all folds of a node's ensemble: those that some strategies read.
 */
include { file_option ; gpu_share ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process PREDICT {
    tag "${node.id} ${settings.maps} shard ${shard}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node) + [shard: shard]) }
    memory { memory_of(task, 8, need, 'fold_probability' in settings.maps.tokenize(',') ? folds.size() : 0) }

    input:
    // node; shard from 0; [node, dataset, cycle, shards, maps, tile_step, device]; prepared folder; folders of folds;
    // the user's trainer or []; [bytes, each] of memory
    tuple val(node), val(shard), val(settings), path(prepared), path(folds), path(trainer_file, stageAs: 'trainers/*'), val(need)
    val code

    output:
    tuple val(node), val(settings.maps), path("${node.id}/uncertainty_*_${shard}.h5") // node, names, maps of the shard's cases

    script:
    def file = "${node.id}/uncertainty_${settings.maps.replace(',', '-')}_${shard}.h5"
    """
    # code ${code}
    ${thread_limits(task.cpus)}
    ${gpu_share(task)}
    predict.py --prepared ${prepared} --shard ${shard} ${options(settings)} --threads ${task.cpus} \\
        ${file_option('--trainer-file', trainer_file)} --out ${file} ${folds}
    """

    stub:
    """
    # code ${code}
    mkdir ${node.id}
    touch ${node.id}/uncertainty_${settings.maps.replace(',', '-')}_${shard}.h5
    """
}
