/*
 * HAND_OUT: a query's patches as a package that people label in a viewer of their own.
 */
include { file_option ; labels_of ; memory_of ; options ; thread_limits ; where } from '../functions/tasks.nf'

process HAND_OUT {
    tag "${trajectory.id} cycle ${trajectory.cycle}"
    label 'cpu_low'
    resourceLabels { labels_of(task, where(trajectory)) }
    memory { memory_of(task, 4, need) }

    input:
    // trajectory; [strategy, cycle, delivery, out, double_read, blind, seed]; prepared folder; raw folder; query; patches for
    // refused ones; uncertainty maps or []; [bytes, each] of memory
    tuple val(trajectory), val(settings), path(prepared), path(raw, stageAs: 'raw'), path(query), path(reserve, stageAs: 'reserve.csv'), path(maps), val(need)
    val code

    output:
    tuple val(trajectory), path("${settings.out}/{tasks,double_read}.{csv,h5}"), emit: tasks // trajectory, table of patches and of those that two people read
    path "${settings.out}/**", emit: files

    script:
    """
    # code ${code}
    ${thread_limits(1)}
    hand_out.py --prepared ${prepared} --input ${raw} --query ${query} ${file_option('--reserve', reserve)} ${options(settings)} ${maps}
    """

    stub:
    """
    # code ${code}
    mkdir -p ${settings.out}
    touch ${settings.out}/tasks.csv ${settings.double_read ? "${settings.out}/double_read.csv" : ''}
    """
}
