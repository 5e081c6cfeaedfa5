/*
 * The plan: what is to be run, as rows of one (data set, regime) each, and all that is counted or named from it.
 *
 * A row holds the typed parameters, with `strategies` and `seeds` as lists and the names and files made whole.
 * A node is a trained ensemble, a trajectory asks for the labels of one cycle; both are maps of
 * [id, dataset, regime, seed, cycle, strategy]. At cycle 0 all strategies share one node, whose strategy is ''.
 *
 * Rows with `whole_pool` are the references on full labels: one seed, one cycle, no strategies, no queries.
 */

// How many times labels come round: once for the start of each seed (or the whole pool of a reference), and once for each
// later cycle of each strategy. The loop ends after this many, so it is counted here and nowhere else.
def annotation_rounds(plan) {
    plan.sum { row -> row.seeds.size() * (1 + row.strategies.size() * (row.cycles - 1)) }
}

// The row that a node or a trajectory belongs to.
def row_of(plan, meta) {
    plan.find { row -> row.dataset == meta.dataset && row.regime == meta.regime }
}

// A text as part of a file name.
def file_name(text) {
    text.replaceAll(/[^A-Za-z0-9._-]/, '_')
}

// Ids: <dataset>-<regime>-<strategy>-s<seed>, and -c<cycle> behind it for a node. Cycle 0 has no strategy in it.
def stem(row, strategy, seed) {
    [row.dataset, row.regime, strategy, "s${seed}".toString()].findAll { part -> part }.collect { part -> file_name(part) }.join('-')
}

def node_id(row, strategy, seed, cycle) {
    "${stem(row, cycle > 0 ? strategy : '', seed)}-c${cycle.toString().padLeft(2, '0')}".toString()
}

// The trajectories that ask for the first labels: one for each (data set, regime, seed).
def start_trajectories(plan) {
    plan.findAll { row -> !row.whole_pool }.collectMany { row -> starts_of(row) }
}

// The nodes that they are the labels of.
def start_nodes(plan) {
    start_trajectories(plan).collect { trajectory -> node_of(plan, trajectory) }
}

// The nodes that are trained on the whole pool.
def reference_nodes(plan) {
    plan.findAll { row -> row.whole_pool }.collectMany { row -> starts_of(row) }.collect { trajectory -> node_of(plan, trajectory) }
}

def starts_of(row) {
    row.seeds.collect { seed ->
        [id: stem(row, '', seed), dataset: row.dataset, regime: row.regime, seed: seed, cycle: 0, strategy: row.start.name]
    }
}

// Patches that are labelled when a cycle is trained.
def labelled_patches(row, cycle) {
    row.start_size + ((0..<cycle).collect { before -> query_size_of(row, before + 1) }.sum() ?: 0)
}

// Patches of the query that labels a cycle. A row's query_size is one number, or a list with one for each query.
def query_size_of(row, cycle) {
    row.query_size instanceof List ? row.query_size[cycle - 1] : row.query_size
}

// The strategies that go on from a node: all at cycle 0, its own later, none after the last cycle.
def next_strategies(plan, node) {
    def row = row_of(plan, node)
    def strategies = node.cycle + 1 < row.cycles ? row.strategies : []
    strategies.findAll { strategy -> node.cycle == 0 || strategy.name == node.strategy }
}

// The trajectories that ask for the next cycle's labels: all, or those whose strategies read these maps ('' for none).
def next_trajectories(plan, node, maps = null) {
    next_strategies(plan, node).findAll { strategy -> maps == null || strategy.maps == maps }.collect { strategy ->
        node + [id: stem(row_of(plan, node), strategy.name, node.seed), cycle: node.cycle + 1, strategy: strategy.name]
    }
}

// How many queries read the uncertainty maps that a trajectory's query reads: at cycle 1 they are those of a shared node.
def readers_of(plan, trajectory) {
    def maps = strategy_of(plan, trajectory).maps
    trajectory.cycle == 1 ? row_of(plan, trajectory).strategies.count { strategy -> strategy.maps == maps } : 1
}

// The trajectories that ask for labels after a node, cycle after cycle.
def later_trajectories(plan, node) {
    next_trajectories(plan, node).collectMany { trajectory -> [trajectory] + later_trajectories(plan, node_of(plan, trajectory)) }
}

// The node whose labels those of a later one would be added to.
def node_before(plan, node) {
    def (cycle, strategy) = [node.cycle - 1, node.cycle > 1 ? node.strategy : '']
    node + [id: node_id(row_of(plan, node), strategy, node.seed, cycle), cycle: cycle, strategy: strategy]
}

// The node that a trajectory's labels make.
def node_of(plan, trajectory) {
    def strategy = trajectory.cycle > 0 ? trajectory.strategy : ''
    trajectory + [id: node_id(row_of(plan, trajectory), strategy, trajectory.seed, trajectory.cycle), strategy: strategy]
}

// The strategy of a trajectory, as `parse_strategy` gives it.
def strategy_of(plan, trajectory) {
    def row = row_of(plan, trajectory)
    trajectory.cycle == 0 ? row.start : row.strategies.find { strategy -> strategy.name == trajectory.strategy }
}

// What PREDICT makes of a node: each set of maps that strategies going on from it read, as names with commas between. A
// strategy that is added brings a set of its own or shares one, so it changes nothing of what the others read.
def map_sets(plan, node) {
    next_strategies(plan, node)*.maps.unique() - ['']
}

// All nodes of a plan, cycle by cycle.
def plan_nodes(plan) {
    def first = start_nodes(plan) + reference_nodes(plan)
    (1..<plan*.cycles.max()).inject([first]) { cycles, _cycle -> cycles + [next_nodes(plan, cycles.last())] }.collectMany { nodes -> nodes }
}

// Their ids, which are as many as the rounds of labels.
def node_ids(plan) {
    plan_nodes(plan)*.id
}

// The nodes that follow from these, by all strategies or by those that read these maps.
def next_nodes(plan, nodes, maps = null) {
    nodes.collectMany { node -> next_trajectories(plan, node, maps) }.collect { trajectory -> node_of(plan, trajectory) }
}

// What cannot be made while a node waits for its labels: itself, and all that follow from it.
def owed_nodes(plan, node) {
    [node] + next_nodes(plan, [node]).collectMany { next -> owed_nodes(plan, next) }
}

// Ids of all that is not made since these nodes are not.
def not_made(plan, nodes) {
    nodes.values().collectMany { one -> owed_nodes(plan, one.node)*.id }
}

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
