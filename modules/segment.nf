/*
 * SEGMENT: the pool as a node's ensemble segments it, as label files. The test set is segmented by EVALUATE.
 */
include { file_option ; gpu_share ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process SEGMENT {
    tag "${node.id}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node)) }
    memory { memory_of(task, 8, need) }

    input:
    // node; [what, node, out, ...]; prepared folder; folders of folds; the user's trainer or []; [bytes, each] of memory
    tuple val(node), val(settings), path(prepared), path(folds), path(trainer_file, stageAs: 'trainers/*'), val(need)
    val code

    output:
    path "${settings.out}/*"

    script:
    """
    # code ${code}
    ${thread_limits(task.cpus)}
    ${gpu_share(task)}
    export.py --prepared ${prepared} ${options(settings)} --threads ${task.cpus} ${file_option('--trainer-file', trainer_file)} ${folds}
    """

    stub:
    """
    # code ${code}
    mkdir -p ${settings.out}
    touch ${settings.out}/case
    """
}
