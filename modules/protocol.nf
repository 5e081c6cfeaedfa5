/*
 * PROTOCOL: a file of the run's own protocol among the results: its parameters, the cases of a data set. Only what a task
 * publishes is shown by Seqera Platform.
 */
include { labels_of ; quoted } from '../functions/tasks.nf'

process PROTOCOL {
    tag "${name}"
    label 'cpu_low'
    resourceLabels { labels_of(task, [:]) }

    input:
    tuple val(name), path(content, stageAs: 'given/*') // name in the results, file

    output:
    path "${name}"

    script:
    """
    cp ${content} ${quoted(name)}
    """

    stub:
    """
    cp ${content} ${quoted(name)}
    """
}
