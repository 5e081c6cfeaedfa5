/*
 * SEGMENT: the pool as a node's ensemble segments it, as label files. The test set is segmented by EVALUATE.
 */
include { options ; thread_limits } from '../functions/shell.nf'
include { labels_of ; where } from '../functions/labels.nf'
include { evaluate_memory } from '../functions/resources.nf'

process SEGMENT {
    tag "${node.id}"
    label 'gpu'
    resourceLabels { labels_of(task, where(node)) }
    memory { evaluate_memory(task, sizes) }

    input:
    // node; [what, node, out, ...]; prepared folder; folders of folds; sizes
    tuple val(node), val(settings), path(prepared), path(folds), val(sizes)
    val code

    output:
    path "${settings.out}/*"

    script:
    """
    # code ${code}
    ${thread_limits(task.cpus)}
    export.py --prepared ${prepared} ${options(settings)} --threads ${task.cpus} ${folds}
    """

    stub:
    """
    # code ${code}
    mkdir -p ${settings.out}
    touch ${settings.out}/case
    """
}
