/*
 * Trainings that go on from the same fold of the node before (--training_start previous, shrink_perturb), and the user's
 * weights that others start from (--initial_weights).
 */
include { next_strategies ; plan_nodes ; row_of } from './plan.nf'

// Whether a training of a node goes on from another. At cycle 0 there is none, nor for the whole pool.
def goes_on(row, node) {
    row.training_start != 'scratch' && node.cycle > 0
}

// Whether trainings of a plan go on from others.
def is_warm(plan) {
    plan.any { row -> goes_on(row, [cycle: row.cycles - 1]) }
}

// Whether trainings of later nodes go on from a node's.
def is_gone_on_from(plan, node) {
    goes_on(row_of(plan, node), [cycle: node.cycle + 1]) && next_strategies(plan, node)
}

// How many trainings others go on from: what comes by the topic of trainings is read for as many.
def warm_trainings(plan) {
    plan_nodes(plan).findAll { node -> is_gone_on_from(plan, node) }.collect { node -> row_of(plan, node).folds }.sum() ?: 0
}

// What a training is told beside the row's settings, where it goes on from another.
def warm_settings(row, node) {
    goes_on(row, node) ? [epochs: row.warm_epochs ?: row.epochs, training_start: row.training_start] : [:]
}

// What is wrong with how a row's trainings start.
def start_errors(values) {
    values.warm_epochs && values.training_start == 'scratch'
        ? ["--warm_epochs ${values.warm_epochs}: no training goes on from another; add --training_start previous or shrink_perturb"]
        : []
}

// Checkpoints of a data set's rows that trainings start from, each once.
def weights_files(rows) {
    rows*.initial_weights.findAll { path -> path }.unique()
}

// The rows whose trainings start from such weights, as PREPARE is told of them, in JSON; null where there are none. A trainer
// file may build a network of its own, which TRAIN alone knows.
def weights_starts(rows) {
    def paths = weights_files(rows)
    def starts = rows.findAll { row -> row.initial_weights && !row.trainer_file }.collect { row ->
        def place = "weights_${paths.indexOf(row.initial_weights) + 1}".toString()
        row.subMap(['where', 'train_patch_size', 'features']) + [shown: row.initial_weights, path: place]
    }
    starts ? groovy.json.JsonOutput.toJson(starts.unique()) : null
}
