/*
 * PHANTOM: the built-in data set, as an nnU-Net raw folder with its table of patients.
 */
include { labels_of ; options } from '../functions/tasks.nf'

process PHANTOM {
    tag "${dataset}"
    label 'cpu_low'
    resourceLabels { labels_of(task, [dataset: dataset]) }

    input:
    tuple val(dataset), val(settings) // name; [seed, cases, variant]
    val code

    output:
    tuple val(dataset), path('phantom'), path('phantom/groups.csv')

    script:
    """
    # code ${code}
    phantom.py ${options(settings)} --out phantom
    """

    stub:
    """
    # code ${code}
    mkdir -p phantom/imagesTr phantom/labelsTr
    touch phantom/dataset.json phantom/groups.csv
    """
}
