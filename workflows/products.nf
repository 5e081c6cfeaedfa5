/*
 * PRODUCTS: what of a run is published for other tools: models, segmentations, maps and labels (docs/products.md). Nothing
 * of the loop waits for it.
 */
include { code_digest ; mean_dice ; with_dataset } from '../functions/common.nf'
include { exports_of ; exports_of_stopped ; is_last ; last_nodes ; pool_settings ; wants_best } from '../functions/exports.nf'
include { trainer_of } from '../functions/given.nf'
include { row_of } from '../functions/plan.nf'
include { EXPORT } from '../modules/export.nf'
include { SEGMENT } from '../modules/segment.nf'

workflow PRODUCTS {
    take:
    plan // rows, see functions/plan.nf
    prepared // [dataset, prepared folder, oracle, reference, memory by stage, raw folder]
    ensembles // [node, [folders of its folds]]
    metrics // [node, metrics]
    maps // [node, names of the maps, [uncertainty maps by shard]]
    labels // [node, label masks]
    stopped // nodes by which trajectories have stopped, once for each trajectory

    main:
    ends = stopped.map { node -> [node] }

    // [node, [folders of its folds]]: each once, though several trajectories may have stopped by it
    stopped_ensembles = ends.unique().join(ensembles)

    // [node, [folders of its folds]]: the best of the last nodes of a data set and regime, known when all are evaluated
    best = metrics.filter { node, _file -> is_last(plan, node) }.mix(ends.combine(metrics, by: 0))
        .filter { node, _file -> wants_best(plan, node) }
        .map { node, file -> [groupKey(node.subMap(['dataset', 'regime']), last_nodes(plan, node)), [node, mean_dice(file) ?: 0]] }
        .groupTuple()
        .map { _key, found -> [found.toSorted { pair -> pair[0].id }.max { pair -> pair[1] }[0]] }
        .join(ensembles)

    // [node, what is made and where, files]
    exported = ensembles.map { node, folders -> [node, 'folds', '', folders] }
        .mix(best.map { node, folders -> [node, 'best', '', folders] })
        .mix(maps.map { node, names, files -> [node, 'maps', names, files] })
        .mix(labels.map { node, masks -> [node, 'labels', '', masks] })
        .flatMap { node, source, names, files -> exports_of(plan, node, source, names, source == 'best' || is_last(plan, node)).collect { settings -> [node, settings, files] } }
        .mix(
            stopped_ensembles.map { node, folders -> [node, 'folds', folders] }.mix(ends.unique().join(labels).map { node, masks -> [node, 'labels', masks] })
                .flatMap { node, source, files -> exports_of_stopped(plan, node, source).collect { settings -> [node, settings, files] } }
        )

    // [node, settings, prepared folder, raw folder or [], files, the user's trainer or [], memory]
    exports = with_dataset(exported, prepared).map { node, settings, files, images, _oracle, _reference, need, raw ->
        [node, settings, images, settings.what == 'nnunet_raw' ? raw : [], files, settings.what == 'model' ? trainer_of(row_of(plan, node)) : [], need.export]
    }
    EXPORT(exports, code_digest('export'))

    // [node, settings, prepared folder, [folders of folds], the user's trainer or [], memory]
    pools = with_dataset(ensembles.filter { node, _folders -> is_last(plan, node) }.mix(stopped_ensembles).filter { node, _folders -> pool_settings(plan, node, true) }, prepared)
        .map { node, folders, images, _oracle, _reference, need, _raw -> [node, pool_settings(plan, node, true), images, folders, trainer_of(row_of(plan, node)), need.evaluate] }
    SEGMENT(pools, code_digest('export'))
}
