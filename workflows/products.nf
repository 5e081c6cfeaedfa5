/*
 * PRODUCTS: what of a run is published for other tools: models, segmentations, maps and labels (docs/products.md). Nothing
 * of the loop waits for it.
 */
include { exports_of ; last_nodes ; may_be_best ; pool_settings } from '../functions/exports.nf'
include { row_of } from '../functions/plan.nf'
include { trainer_of } from '../functions/settings.nf'
include { code_digest ; with_dataset } from '../functions/shell.nf'
include { EXPORT } from '../modules/export.nf'
include { SEGMENT } from '../modules/segment.nf'
include { mean_dice } from './progress.nf'

workflow PRODUCTS {
    take:
    plan // rows, see functions/plan.nf
    prepared // [dataset, prepared folder, oracle, reference, memory by stage, raw folder]
    ensembles // [node, [folders of its folds]]
    metrics // [node, metrics]
    maps // [node, names of the maps, [uncertainty maps by shard]]
    labels // [node, label masks]

    main:
    // [node, [folders of its folds]]: the best of the last nodes of a data set and regime, known when all are evaluated
    best = metrics.filter { node, _file -> may_be_best(plan, node) }
        .map { node, file -> [groupKey(node.subMap(['dataset', 'regime']), last_nodes(plan, node)), [node, mean_dice(file) ?: 0]] }
        .groupTuple()
        .map { _key, found -> [found.toSorted { pair -> pair[0].id }.max { pair -> pair[1] }[0]] }
        .join(ensembles)

    // [node, what is made and where, files]
    exported = ensembles.map { node, folders -> [node, 'folds', '', folders] }
        .mix(best.map { node, folders -> [node, 'best', '', folders] })
        .mix(maps.map { node, names, files -> [node, 'maps', names, files] })
        .mix(labels.map { node, masks -> [node, 'labels', '', masks] })
        .flatMap { node, source, names, files -> exports_of(plan, node, source, names).collect { settings -> [node, settings, files] } }

    // [node, settings, prepared folder, raw folder or [], files, the user's trainer or [], memory]
    exports = with_dataset(exported, prepared).map { node, settings, files, images, _oracle, _reference, need, raw ->
        [node, settings, images, settings.what == 'nnunet_raw' ? raw : [], files, settings.what == 'model' ? trainer_of(row_of(plan, node)) : [], need.export]
    }
    EXPORT(exports, code_digest('export'))

    // [node, settings, prepared folder, [folders of folds], the user's trainer or [], memory]
    pools = with_dataset(ensembles.filter { node, _folders -> pool_settings(plan, node) }, prepared)
        .map { node, folders, images, _oracle, _reference, need, _raw -> [node, pool_settings(plan, node), images, folders, trainer_of(row_of(plan, node)), need.evaluate] }
    SEGMENT(pools, code_digest('export'))
}
