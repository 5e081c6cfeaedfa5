/*
 * What each stage is told, as a map that becomes its command line options. A stage gets no more than it uses, so that
 * another parameter's change does not run it again.
 */
include { download_folder ; raw_folder } from './decathlon.nf'
include { test_predictions } from './exports.nf'
include { given_files } from './given.nf'
include { by_people ; outside_settings ; reserve_size } from './people.nf'
include { query_size_of ; strategy_of } from './plan.nf'
include { folder_digest } from './shell.nf'
include { warm_settings ; weights_files ; weights_starts } from './warm.nf'

// The kind of phantom stands behind a colon: phantom:two_channels.
def phantom_settings(row) {
    [seed: row.phantom_seed, cases: row.phantom_cases, variant: row.input.tokenize(':')[1]]
}

// [task, download folder, the same to be mounted]
def download_inputs(row) {
    [raw_folder(row).name, download_folder(row).toString(), download_folder(row)]
}

// `rows` are all rows of one data set, which is checked and prepared once.
def check_settings(rows) {
    def loops = rows.findAll { row -> !row.whole_pool }.collect { row ->
        row.subMap(['where', 'folds', 'start_size', 'query_size', 'patch_size', 'patches_per_image', 'start_strategy']) +
            [strategies: row.strategies*.name, given: given_settings(rows, row)] + row.subMap(['stop']).findAll { _name, rules -> rules }
    }
    [
        name: rows[0].dataset,
        shown: rows[0].input,
        configuration: rows[0].configuration,
        group_pattern: rows[0].group_pattern,
        shown_test_cases: rows[0].test_cases,
        shown_strategy_file: rows[0].strategy_file,
        shown_trainer_file: rows[0].trainer_file,
        rows: groovy.json.JsonOutput.toJson(loops),
        people: by_people(rows[0]) ?: null,
    ] + test_set(rows[0]).findAll { name, _value -> name != 'split_seed' }
}

// A row's files as CHECK is told of them: as the user knows them, and where the task has them.
def given_settings(rows, row) {
    def paths = given_files(rows) + weights_files(rows)
    row.subMap(['start_queries', 'folds_file', 'initial_weights', 'plans']).findAll { _name, path -> path }.collectEntries { name, path ->
        [name, [path, "given_${paths.indexOf(path) + 1}".toString()]]
    }
}

// How a data set is split: by a test set that is given, or by a share and a seed.
def test_set(row) {
    row.held_out || row.test_folder
        ? [test_case: row.held_out ?: null, test_folder: row.test_folder ?: null]
        : row.subMap(['test_fraction', 'split_seed'])
}

// The checks of PREPARE take the largest demands.
def prepare_settings(rows) {
    [
        name: rows[0].dataset,
        configuration: rows[0].configuration,
        planner: rows[0].plans ? null : rows[0].planner,
        group_pattern: rows[0].group_pattern,
        folds: rows*.folds.max(),
        start_size: rows*.start_size.min(),
        people: by_people(rows[0]) ?: null,
        starts: weights_starts(rows),
    ] + test_set(rows[0])
}

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

def stop_settings(row, trajectory) {
    [trajectory: trajectory.id, rules: row.stop]
}

// A data set in folders of the user's: raw folder, table of patients or [], free masks or [], state of the folders.
def raw_files(row, folder) {
    def state = folder_digest(folder) + (row.free_masks ? folder_digest(row.free_masks) : '')
    [file(folder), row.groups ? file(row.groups) : [], row.free_masks ? file(row.free_masks) : [], state]
}

// A data set as CHECK takes it: `raw` is what `raw_files` gives, `kept` are the files that rows name, by their paths.
def check_input(dataset, rows, raw, kept) {
    def given = given_files(rows).collect { path -> kept[path] } + weights_files(rows).collect { path -> file(path) }
    [dataset, check_settings(rows)] + raw + [rows[0].strategy_file ? file(rows[0].strategy_file) : [], trainer_of(rows[0]), given]
}

// The user's trainer, or []. It trains, and all that loads its networks is given it, since it may have built them.
def trainer_of(row) {
    row.trainer_file ? file(row.trainer_file) : []
}

def train_settings(row, node) {
    [node: node.id, seed: node.seed, cycle: node.cycle] +
        row.subMap(['folds', 'epochs', 'iterations', 'train_patch_size', 'features', 'batch_size', 'optimiser', 'learning_rate', 'stop_training', 'device', 'compile', 'store']) +
        warm_settings(row, node)
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
