/*
 * TRAIN: one fold of a node's ensemble. Checkpoints are kept in a store outside the work folder under the digest of
 * what they rest on, so that a training that was stopped goes on and a finished one returns at once.
 */
include { options ; thread_limits } from './functions.nf'

process TRAIN {
    tag "${node.id} fold ${fold}"
    label 'gpu'
    publishDir "${params.outdir}/training", mode: params.publish_mode, pattern: '*.json', saveAs: { _name -> "${node.id}/fold_${fold}.json" }
    publishDir "${params.outdir}/models/${node.id}", mode: params.publish_mode, pattern: 'fold_*', enabled: params.publish_models

    input:
    // node; fold from 0; [node, seed, cycle, folds, epochs, ..., threads, store]; prepared folder; label masks
    tuple val(node), val(fold), val(settings), path(prepared), path(labels)
    val code

    output:
    tuple val(node), val(fold), path("fold_${fold}"), emit: folds // node, fold, folder with checkpoint and curve
    path "${node.id}-f${fold}.json", emit: curves // training curve, for the results and the tables

    script:
    """
    ${thread_limits(settings.threads)}
    train.py --prepared ${prepared} --labels ${labels} --fold ${fold} ${options(settings)} --code ${code} --out fold_${fold}
    cp fold_${fold}/training.json ${node.id}-f${fold}.json
    """

    stub:
    """
    # code ${code}
    mkdir fold_${fold}
    touch fold_${fold}/checkpoint.pth fold_${fold}/training.json ${node.id}-f${fold}.json
    """
}
