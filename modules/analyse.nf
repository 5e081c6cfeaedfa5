/*
 * ANALYSE: tables and statistics over all nodes.
 */
include { labels_of } from '../functions/tasks.nf'

process ANALYSE {
    tag 'all'
    label 'cpu_low'
    resourceLabels { labels_of(task, [:]) }

    input:
    path design // design.json
    path 'metrics/*' // <node>.json
    path full, stageAs: 'full/*' // <node>.json of trainings on the whole pool, if any
    path 'labels/*' // <node>.h5
    path 'queries/*' // <node>.csv
    path 'oracle/*' // oracle_<dataset>.h5
    path 'training/*' // <node>-f<fold>.json
    path agreement, stageAs: 'agreement/*' // <node>.csv of patches that several people have read, if any
    path stopped, stageAs: 'stopped/*' // <node that is not made>.csv of trajectories that have stopped, if any
    val code

    output:
    path 'tables/*'

    script:
    """
    # code ${code}
    analyse.py --design ${design} --metrics metrics --labels labels --queries queries --oracle oracle \\
        --training training ${full ? '--full-reference full' : ''} ${agreement ? '--agreement agreement' : ''} ${stopped ? '--stopped stopped' : ''} --out tables
    """

    stub:
    """
    # code ${code}
    mkdir tables
    touch tables/metrics.csv tables/queries.csv tables/pool.csv
    """
}
