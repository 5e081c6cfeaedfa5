/*
 * REPORT: one HTML file with the tables, learning curves and pictures of the queried patches.
 */
process REPORT {
    tag 'all'
    label 'cpu_low'

    input:
    path design // design.json
    path tables // folder of ANALYSE
    path 'views/*' // <node>.h5
    path 'labels/*' // <node>.h5
    path parameters // parameters.json
    path versions // versions.json
    val code

    output:
    path 'report.html'
    path 'figures'

    script:
    """
    # code ${code}
    report.py --design ${design} --tables ${tables} --views views --labels labels \\
        --parameters ${parameters} --versions ${versions} --out report.html --figures figures
    """

    stub:
    """
    # code ${code}
    mkdir figures
    touch report.html
    """
}
