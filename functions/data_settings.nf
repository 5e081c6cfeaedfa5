/*
 * What CHECK and PREPARE are given and told, which look at a data set once. `rows` are all rows of the plan that are about it.
 */
include { folder_digest } from './common.nf'
include { given_files ; trainer_of ; weights_files ; weights_starts } from './given.nf'
include { by_people } from './people.nf'

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

// How a data set is split: by a test set that is given, or by a share and a seed.
def test_set(row) {
    row.held_out || row.test_folder
        ? [test_case: row.held_out ?: null, test_folder: row.test_folder ?: null]
        : row.subMap(['test_fraction', 'split_seed'])
}
