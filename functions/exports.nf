/*
 * What of a node is exported for other tools, by --publish_product, --publish_predictions, --publish_uncertainty and
 * --publish_labels: the options that bin/export.py is given, and where in the results it goes.
 */
include { map_sets ; next_strategies ; row_of } from './plan.nf'
include { listed ; uncertainty_format } from './published.nf'

// Whether no cycle follows a node.
def is_last(plan, node) {
    next_strategies(plan, node).isEmpty()
}

// Whether somebody asks for the best of a node's data set and regime.
def wants_best(plan, node) {
    row_of(plan, node).publish_product == 'best'
}

// How many such nodes a node's data set and regime have.
def last_nodes(plan, node) {
    def row = row_of(plan, node)
    row.seeds.size() * (row.cycles > 1 ? row.strategies.size() : 1)
}

// The exports of a node from its folds (or, as the best one, from `best`), its maps of these names, or its labels. Maps that
// lie in another file too, with more beside them, are exported from there. `last`: whether its trajectory ends with it.
def exports_of(plan, node, source, names, last) {
    def row = row_of(plan, node)
    def (trajectory, cycle) = (node.id =~ /(.*)-(c\d+)$/)[0].drop(1)
    def model = [what: 'model', out: "product/${last ? trajectory : node.id}/model"] + row.subMap(['mirroring']) + [tile_step: row.test_tile_step]
    def wanted = [
        folds: row.publish_product == 'all' || (last && row.publish_product == 'last') ? [model] : [],
        best: [model],
        maps: uncertainty_format(row) == 'nifti' && !map_sets(plan, node).any { other -> other != names && other.tokenize(',').containsAll(names.tokenize(',')) } ? [[what: 'uncertainty', out: "uncertainty/${node.id}"]] : [],
        labels: ('nifti' in listed(row.publish_labels) ? [[what: 'labels', out: "labels/${trajectory}/labels_${cycle}"]] : []) +
            (last && 'nnunet' in listed(row.publish_labels) ? [[what: 'nnunet_raw', out: "labels/${trajectory}/nnunet_raw"]] : []),
    ]
    wanted[source].collect { settings -> settings + [node: node.id] }
}

// What is exported more of a node by which a trajectory has stopped: what is of last nodes alone.
def exports_of_stopped(plan, node, source) {
    exports_of(plan, node, source, '', true) - exports_of(plan, node, source, '', false)
}

// The segmentations of the pool, made of each trajectory's last node; null where nobody asks for them.
def pool_settings(plan, node, last) {
    def row = row_of(plan, node)
    def forms = listed(row.publish_predictions)
    def asked = 'pool' in forms && last
    asked ? [what: 'predictions', node: node.id, tile_step: row.test_tile_step, probabilities: 'probabilities' in forms ?: null, out: "predictions/${node.id}/pool"] +
        row.subMap(['mirroring', 'device']) : null
}
