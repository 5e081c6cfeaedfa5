/*
 * EXPORT: something of a node as other tools take it: its model, its maps or labels on the files' own grids.
 */
include { file_option ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process EXPORT {
    tag "${node.id} ${settings.what}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(node)) }
    memory { memory_of(task, 4, need) }

    input:
    // node; [what, node, out, ...]; prepared folder; raw folder or []; folders of folds, uncertainty maps, or label masks;
    // the user's trainer or []; [bytes, each] of memory
    tuple val(node), val(settings), path(prepared), path(raw, stageAs: 'raw'), path(files), path(trainer_file, stageAs: 'trainers/*'), val(need)
    val code

    output:
    path "${settings.out}/**"

    script:
    """
    # code ${code}
    ${thread_limits(1)}
    export.py --prepared ${prepared} ${options(settings)} ${file_option('--input', raw)} ${file_option('--trainer-file', trainer_file)} ${files}
    """

    stub:
    """
    # code ${code}
    mkdir -p ${settings.out}
    touch ${settings.out}/${settings.what}
    """
}
