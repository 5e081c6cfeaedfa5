/*
 * STOPS: which queries are labelled. Where a row has rules (--stop), a trajectory's next query waits for the evaluation of its
 * last node, and goes on to those who label or ends there. All others go on as they are.
 */
include { code_digest } from '../functions/common.nf'
include { later_trajectories ; node_of ; row_of } from '../functions/plan.nf'
include { STOP } from '../modules/stop.nf'

workflow STOPS {
    take:
    plan // rows, see functions/plan.nf
    proposed // [trajectory, query]
    asked // [trajectory, labels so far or [], uncertainty maps or []]
    metrics // [node, metrics]

    main:
    queries = proposed.branch { trajectory, _query ->
        ruled: trajectory.cycle > 0 && row_of(plan, trajectory).stop
        free: true
    }

    // [trajectory, [metrics of its nodes so far]]: as many as its cycle's number
    curves = metrics.filter { node, _file -> row_of(plan, node).stop }
        .flatMap { node, file -> later_trajectories(plan, node).collect { trajectory -> [groupKey(trajectory, trajectory.cycle), file] } }
        .groupTuple()
        .map { key, files -> [key.getGroupTarget(), files.toSorted { file -> file.name }] }

    // [trajectory, node, settings, query, labels so far, [metrics of its nodes so far]]
    decisions = queries.ruled.join(asked).join(curves).map { trajectory, query, masks, _maps, files ->
        [trajectory, node_of(plan, trajectory), [trajectory: trajectory.id, rules: row_of(plan, trajectory).stop], query, masks, files]
    }
    STOP(decisions, code_digest('stop'))

    emit:
    going = queries.free.mix(queries.ruled.join(STOP.out.going).map { trajectory, query, _table -> [trajectory, query] }) // [trajectory, query]
    stopped = STOP.out.stopped // [trajectory, when and why it stops]
}
