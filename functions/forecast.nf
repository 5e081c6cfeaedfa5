/*
 * What FORECAST and PREFLIGHT_MEASURE are told of a plan.
 */
include { exports_of ; is_last ; pool_settings } from './exports.nf'
include { map_sets ; next_nodes ; plan_nodes } from './plan.nf'
include { is_awaited ; is_phantom ; raw_folder } from './sources.nf'

// plan.json: the rows, and each node with its row's number and the nodes whose labels follow from its labels alone (free) or
// from each of its sets of maps (asked).
def plan_content(plan) {
    def rows = plan.collect { row -> row + [source: source_of(row), folder: "${raw_folder(row)}".toString()] + product_counts(row) }
    def nodes = rows.withIndex().collectMany { row, i ->
        plan_nodes([row]).collect { node -> // within its row, where things are found at once
            node.subMap(['id', 'seed', 'cycle', 'strategy']) +
                [row: i, free: next_nodes([row], [node], '')*.id, asked: map_sets([row], node).collectEntries { maps -> [maps, next_nodes([row], [node], maps)*.id] }]
        }
    }
    [rows: rows, nodes: nodes]
}

// Whether a row's images are made, downloaded, or in a folder of the user's.
def source_of(row) {
    is_phantom(row) ? 'phantom' : is_awaited(row) ? 'download' : 'folder'
}

// How many tasks publish something of a row for other tools (exports.nf).
def product_counts(row) {
    def nodes = plan_nodes([row])
    def exports = nodes.collectMany { node ->
        ['folds', 'labels'].collectMany { source -> exports_of([row], node, source, '', is_last([row], node)) } +
            map_sets([row], node).collectMany { names -> exports_of([row], node, 'maps', names, is_last([row], node)) }
    }
    def best = row.publish_product == 'best' ? 1 : 0
    [exports: exports.size() + best, segments: nodes.count { node -> pool_settings([row], node, is_last([row], node)) }]
}
