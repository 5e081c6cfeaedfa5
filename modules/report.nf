/*
 * REPORT: one HTML file with the tables, learning curves and pictures of the queried patches.
 */
include { labels_of } from '../functions/tasks.nf'

process REPORT {
    tag 'all'
    label 'cpu_low'
    resourceLabels { labels_of(task, [:]) }

    input:
    path design // design.json
    path 'tables/*' // of ANALYSE
    path views, stageAs: 'views/*' // <node>.h5, if any
    path 'labels/*' // <node>.h5
    path parameters // parameters.json
    path versions, stageAs: 'workflow/*' // versions.json of the workflow
    val code

    output:
    path 'report.html'
    path 'figures/*'
    path 'versions.json' // with those of Python and its packages

    script:
    """
    # code ${code}
    report.py --design ${design} --tables tables ${views ? '--views views' : ''} --labels labels \\
        --parameters ${parameters} --versions ${versions} --versions-out versions.json \\
        --out report.html --figures figures
    """

    stub:
    """
    # code ${code}
    mkdir figures
    touch report.html versions.json figures/figure.png figures/figure.svg
    """
}
