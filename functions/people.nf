/*
 * People in the loop (--oracle people): where packages go, where labels come back to, and what is handed out already.
 */

def by_people(values) {
    values.oracle == 'people'
}

// People label in any pool; a test set is what labelled cases somebody names.
def has_test_set(values) {
    !by_people(values) || values.test_cases
}

// A node's package below the results, annotation/<trajectory>/cycle_NN.
def package_folder(node) {
    node.id.replaceFirst(/^(.*)-c(\d+)$/, 'annotation/$1/cycle_$2')
}

// Where the labels of a node's patches come back to, as the user knows it.
def delivery_folder(values, node) {
    "${values.annotations ?: values.outdir + '/annotation'}/${package_folder(node) - 'annotation/'}/labels".toString()
}

// Patches that stand ready for those of a query that people refuse: a quarter more; null where nobody can refuse any.
def reserve_size(values, size) {
    by_people(values) ? (size + 3).intdiv(4) : null
}

// The query that people were given for a node by an earlier run, or null. It is not made anew: a correction of earlier
// labels trains anew what rests on them, but patches that somebody may have labelled by now stay those that are asked for.
def handed_out(values, node) {
    def query = file("${values.outdir}/${package_folder(node)}/query.csv")
    by_people(values) && query.exists() ? query : null
}

// What HAND_OUT is told of the patches that two people read; nothing where there are none.
def double_read_settings(values, trajectory) {
    values.double_read ? [double_read: values.double_read, blind: values.blind ?: null, seed: trajectory.seed] : [:]
}

// What RECEIVE and ANNOTATE are told of labels outside of the patches.
def outside_settings(values) {
    [accept_outside: by_people(values) && values.accept_outside ?: null]
}

// What RECEIVE is told of people who differ.
def disagreement_settings(values) {
    [disagreement: values.disagreement ?: null, annotator: values.annotators ? annotator_names(values) : null]
}

def annotator_names(values) {
    values.annotators.split(',')*.trim().findAll { name -> name }
}

// The reserve that they were given with it, or null.
def handed_out_reserve(values, node) {
    def reserve = file("${values.outdir}/${package_folder(node)}/reserve.csv")
    reserve.exists() ? reserve : null
}

// What RECEIVE is told of that package: where its patches lie, and which of them two people read.
def handed_out_tables(values, node) {
    ['patches_mm.csv', 'double_read.csv', 'double_read.h5'].collect { name -> file("${values.outdir}/${package_folder(node)}/${name}") }.findAll { path -> path.exists() }
}

// nnU-Net's plans that packages of a data set were handed out by, where its files have changed since; else null. Patches are
// voxels of the planned spacing, so that stays when scans join the pool. `starts` are the data set's first nodes.
def kept_plans(values, dataset, starts, state) {
    def plans = file("${values.outdir}/annotation/plans_${dataset}.json")
    def is_out = by_people(values) && plans.exists() && starts.any { node -> handed_out(values, node) }
    is_out && new groovy.json.JsonSlurper().parse(plans).state != state ? plans : null
}

// The start where nobody knows the truth: places that differ, in place of strategies that look at the labels.
def start_by_people(values) {
    by_people(values) ? [start_guarantee: false] + (values.start_strategy == 'random_fg33' ? [start_strategy: 'coverage'] : [:]) : [:]
}

// A strategy with the maps that its package shows: where the models would segment.
def with_prediction(values, strategy) {
    by_people(values) ? strategy + [maps: (strategy.maps.tokenize(',') + 'prediction').unique().join(',')] : strategy
}
