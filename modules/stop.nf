/*
 * STOP (--stop): whether a trajectory goes on to its next labels. Where a rule holds, a word to the topic 'labels' says that
 * the next node and all that follow from it are not made.
 */
include { labels_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process STOP {
    tag "${trajectory.id} cycle ${trajectory.cycle}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(trajectory)) }

    input:
    // trajectory; node that its next labels would make; [trajectory, rules]; the query for them; labels so far; metrics of
    // its nodes so far
    tuple val(trajectory), val(node), val(settings), path(query, stageAs: 'query.csv'), path(labels, stageAs: 'labels/*'), path(metrics, stageAs: 'metrics/*')
    val code

    output:
    tuple val(trajectory), path("going/${node.id}.csv"), emit: going, optional: true // trajectory, a header
    tuple val(trajectory), path("stopped/${node.id}.csv"), emit: stopped, optional: true // trajectory, when and why it stops
    tuple val(node), path("stopped/${node.id}.csv"), topic: 'labels', optional: true // node, the same

    script:
    """
    # code ${code}
    ${thread_limits(1)}
    stop.py ${options(settings)} --query query.csv --labels ${labels} \\
        --going going/${node.id}.csv --stopped stopped/${node.id}.csv ${metrics}
    """

    stub:
    """
    # code ${code}
    mkdir going stopped
    touch going/${node.id}.csv
    """
}
