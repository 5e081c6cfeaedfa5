/*
 * VIEWS: pictures of a query's first patches, with the maps that it has read, for the report.
 */
include { labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process VIEWS {
    tag "${trajectory.id} cycle ${trajectory.cycle}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(trajectory)) }
    memory { memory_of(task, 4, need) }

    input:
    // trajectory; [node, strategy, cycle, patches]; prepared folder; query; uncertainty maps or []; [bytes, each] of memory
    tuple val(trajectory), val(settings), path(prepared), path(query), path(maps), val(need)
    val code

    output:
    tuple val(trajectory), path("views/${settings.node}.h5") // trajectory, pictures

    script:
    """
    # code ${code}
    ${thread_limits(1)}
    views.py --prepared ${prepared} --query ${query} ${options(settings)} --out views/${settings.node}.h5 ${maps}
    """

    stub:
    """
    # code ${code}
    mkdir -p views
    touch views/${settings.node}.h5
    """
}
