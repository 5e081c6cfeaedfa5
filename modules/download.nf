/*
 * DOWNLOAD: a data set of the Medical Segmentation Decathlon, into the download folder, which runs share.
 *
 * Asked for only where the folder is not there yet (functions/sources.nf), so nothing of it is cached: the folder is the
 * cache. It runs on the machine that Nextflow runs on, whatever the profile: the nodes of a cluster often have no network.
 */
include { quoted } from '../functions/tasks.nf'

process DOWNLOAD {
    tag "${name}"
    label 'cpu_low'
    executor 'local'
    scratch false
    cache false
    maxForks 1

    input:
    // name; task of the Decathlon; download folder; the same, staged so that containers mount it
    tuple val(dataset), val(name), val(folder), path(mounted, stageAs: 'downloads')

    output:
    // name, path of the raw folder
    tuple val(dataset), env('RAW')

    script:
    """
    download.py --task ${name} --folder ${quoted(folder)}
    RAW=${quoted("${folder}/${name}")}
    """

    stub:
    """
    mkdir -p ${name}/imagesTr ${name}/labelsTr
    touch ${name}/dataset.json
    RAW="\$PWD/${name}"
    """
}
