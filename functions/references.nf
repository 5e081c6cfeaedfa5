/*
 * References on full labels (--full_reference): trainings on the whole pool, which a plan has as rows of their own behind the
 * study's.
 */

// The plan of a study's rows (study.nf), with the references that they want behind.
def plan_rows(rows) {
    def named = rows.collect { row -> row + [reference: reference_of(rows, row)] }
    named + reference_groups(named).collect { like -> reference_row(like[0]) }
}

// One list of rows for each reference that is wanted: those of one data set that train and test alike.
def reference_groups(rows) {
    rows.findAll { row -> row.full_reference }.groupBy { row -> reference_key(row) }.values().toList()
}

def reference_key(row) {
    row.subMap(
        ['dataset', 'folds', 'folds_file', 'epochs', 'iterations', 'optimiser', 'learning_rate', 'train_patch_size', 'features', 'batch_size',
        'initial_weights', 'stop_training', 'test_tile_step', 'mirroring', 'nsd_tolerance_mm']
    )
}

// The regime that the reference of a row has: `full`, and full2, full3 where rows of its data set are trained otherwise;
// '' where none is wanted.
def reference_of(rows, row) {
    if( !row.full_reference )
        return ''
    def own = reference_groups(rows).findAll { like -> like[0].dataset == row.dataset }
    def place = own.findIndexOf { like -> reference_key(like[0]) == reference_key(row) }
    place == 0 ? 'full' : "full${place + 1}".toString()
}

// The reference that a row asks for, with its first seed.
def reference_row(row) {
    row + [regime: row.reference, seeds: row.seeds.take(1), cycles: 1, strategies: [], whole_pool: true]
}
