/*
 * QUERY: a strategy chooses the patches that are labelled next. It is given the oracle only where it is oracle-aware,
 * and at a start that guarantees every class.
 */
include { file_option ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process QUERY {
    tag "${trajectory.id} cycle ${trajectory.cycle}"
    label 'cpu'
    resourceLabels { labels_of(task, where(trajectory)) }
    memory { memory_of(task, 8, need, task.cpus) }

    input:
    // trajectory; [node, strategy, ...]; prepared folder; labels so far or []; uncertainty maps or [];
    // oracle or []; the user's strategies or []; given first patches or []; [bytes, each] of memory
    tuple val(trajectory), val(settings), path(prepared), path(labels, stageAs: 'labels/*'), path(maps), path(oracle), path(strategy_file, stageAs: 'strategies/*'), path(start, stageAs: 'start_queries/query_c00.csv'), val(need)
    val code

    output:
    tuple val(trajectory), path("${settings.node}.csv"), emit: queries // trajectory, chosen patches
    tuple val(trajectory), path("reserve/${settings.node}.csv"), emit: reserves, optional: true // those for refused ones
    path "places/${settings.node}/*", emit: places // the patches in mm: mm.csv and <case>.mrk.json

    script:
    """
    # code ${code}
    ${thread_limits(1)}
    query.py --prepared ${prepared} ${options(settings)} --workers ${task.cpus} ${file_option('--labels', labels)} \\
        ${file_option('--oracle', oracle)} ${file_option('--strategy-file', strategy_file)} \\
        --out ${settings.node}.csv --places places/${settings.node} ${maps}
    """

    stub:
    """
    # code ${code}
    mkdir -p places/${settings.node}
    touch ${settings.node}.csv places/${settings.node}/mm.csv
    ${settings.reserve ? "mkdir reserve; touch reserve/${settings.node}.csv" : ''}
    """
}
