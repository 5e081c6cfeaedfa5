/*
 * What each stage is told, as a map that becomes its command line options. A stage gets no more than it uses, so that
 * another parameter's change does not run it again.
 */
include { outside_settings ; reserve_size } from './people.nf'
include { goes_on ; query_size_of ; strategy_of } from './plan.nf'
include { test_predictions } from './published.nf'

def query_settings(row, trajectory, node) {
    def start = trajectory.cycle == 0
    def size = start ? row.start_size : query_size_of(row, trajectory.cycle)
    [
        node: node.id,
        strategy: trajectory.strategy,
        seed: trajectory.seed,
        cycle: trajectory.cycle,
        cycles: strategy_of([row], trajectory).by_cycles ? row.cycles : null,
        size: size,
        patch_size: row.patch_size,
        stride: row.stride,
        patches_per_image: row.patches_per_image,
        free_overlap: row.free_overlap,
        start: start ?: null,
        class_guarantee: start && row.start_guarantee && !row.start_queries ?: null,
        reserve: reserve_size(row, size),
    ]
}

def views_settings(row, trajectory, node) {
    [node: node.id, strategy: trajectory.strategy, cycle: trajectory.cycle, patches: row.view_patches]
}

def annotate_settings(row, trajectory, node) {
    [node: node.id, cycle: trajectory.cycle, strategy: trajectory.strategy, free_background: row.free_background ?: null] + outside_settings(row)
}

def train_settings(row, node) {
    [node: node.id, seed: node.seed, cycle: node.cycle] +
        row.subMap(['folds', 'epochs', 'iterations', 'train_patch_size', 'features', 'batch_size', 'optimiser', 'learning_rate', 'stop_training', 'device', 'compile', 'store']) +
        (goes_on(row, node) ? [epochs: row.warm_epochs ?: row.epochs, training_start: row.training_start] : [:])
}

def predict_settings(row, node, maps) {
    [node: node.id, cycle: node.cycle, maps: maps, tile_step: row.query_tile_step] +
        row.subMap(['shards', 'device'])
}

def evaluate_settings(row, node) {
    node.subMap(['dataset', 'regime', 'seed', 'cycle', 'strategy']) +
        [node: node.id, tile_step: row.test_tile_step] + test_predictions(row, node) +
        row.subMap(['mirroring', 'nsd_tolerance_mm', 'device'])
}
