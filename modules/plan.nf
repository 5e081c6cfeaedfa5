/*
 * The plan: what is to be run, as rows of one (data set, regime) each, and all that is counted or named from it.
 *
 * A row holds the typed parameters, with `strategies` and `seeds` as lists and the names and files made whole.
 * A node is a trained ensemble, a trajectory asks for the labels of one cycle; both are maps of
 * [id, dataset, regime, seed, cycle, strategy]. At cycle 0 all strategies share one node, whose strategy is ''.
 */
include { own_strategies ; own_maps ; parse_strategy ; strategy_errors ; strategy_registry ; strategy_texts } from './strategies.nf'

// Rows of the plan from typed parameters that `plan_errors` found nothing wrong with.
def plan_rows(values) {
    def known = known_strategies(values)
    [
        values + [
            dataset: dataset_name(values),
            patch_size: values.patch_size.replaceAll(/\s/, ''),
            stride: values.stride.replaceAll(/\s/, ''),
            train_patch_size: values.train_patch_size?.replaceAll(/\s/, ''),
            seeds: seed_list(values.seeds),
            start: parse_strategy(values.start_strategy, known),
            strategies: strategy_texts(values.strategies).collect { text -> parse_strategy(text, known) },
            store: file(values.checkpoint_store).toUriString(),
        ]
    ]
}

def known_strategies(values) {
    strategy_registry() + own_strategies(values.strategy_file)
}


// Without --dataset, the input's own name.
def dataset_name(values) {
    def name = is_phantom(values) ? values.input : file(values.input).name
    values.dataset ?: name.replaceAll(/[^A-Za-z0-9._-]/, '_')
}

def is_phantom(values) {
    values.input ==~ /phantom(:\w+)?/
}

def seed_list(text) {
    text.split(',').collect { part -> part.trim() as Integer }
}

// How many times labels come round: once for the start of each seed, and once for each later cycle of each strategy.
// The loop ends after this many, so it is counted here and nowhere else.
def annotation_rounds(plan) {
    plan.sum { row -> row.seeds.size() * (1 + row.strategies.size() * (row.cycles - 1)) }
}

// The row that a node or a trajectory belongs to.
def row_of(plan, meta) {
    plan.find { row -> row.dataset == meta.dataset && row.regime == meta.regime }
}

// Ids: <dataset>-<regime>-<strategy>-s<seed>, and -c<cycle> behind it for a node. Cycle 0 has no strategy in it.
def stem(row, strategy, seed) {
    [row.dataset, row.regime, strategy, "s${seed}"].findAll { part -> part }.join('-').replaceAll(/[^A-Za-z0-9._-]/, '_')
}

def node_id(row, strategy, seed, cycle) {
    "${stem(row, cycle > 0 ? strategy : '', seed)}-c${cycle.toString().padLeft(2, '0')}".toString()
}

// The trajectories that ask for the first labels: one for each (data set, regime, seed).
def start_trajectories(plan) {
    plan.collectMany { row ->
        row.seeds.collect { seed ->
            [id: stem(row, '', seed), dataset: row.dataset, regime: row.regime, seed: seed, cycle: 0, strategy: row.start.name]
        }
    }
}

// The strategies that go on from a node: all at cycle 0, its own later, none after the last cycle.
def next_strategies(plan, node) {
    def row = row_of(plan, node)
    def strategies = node.cycle + 1 < row.cycles ? row.strategies : []
    strategies.findAll { strategy -> node.cycle == 0 || strategy.name == node.strategy }
}

// The trajectories that ask for the next cycle's labels: those that need a model (and its maps), or those that do not.
def next_trajectories(plan, node, needs_model) {
    next_strategies(plan, node).findAll { strategy -> strategy.needs_model == needs_model }.collect { strategy ->
        node + [id: stem(row_of(plan, node), strategy.name, node.seed), cycle: node.cycle + 1, strategy: strategy.name]
    }
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

// The maps that the strategies going on from a node ask for, sorted; none where PREDICT is not needed.
def maps_of(plan, node) {
    next_strategies(plan, node).collectMany { strategy -> strategy.maps }.unique().sort()
}

// Where a data set's table of cases goes in the results.
def case_table_name(plan, dataset) {
    plan*.dataset.unique().size() > 1 ? "cases_${dataset}.csv".toString() : 'cases.csv'
}

// design.json: what ANALYSE and REPORT need to know of the plan.
def design(plan) {
    [
        cycles: plan*.cycles.max(),
        folds: plan*.folds.max(),
        strategies: plan*.strategies.flatten().unique { strategy -> strategy.name }.collect { strategy ->
            strategy.subMap(['name', 'base', 'label', 'paper_name', 'oracle_aware', 'needs_model'])
        },
        groups: plan.collect { row ->
            row.subMap(['dataset', 'regime', 'start_size', 'query_size', 'patch_size', 'start_strategy'])
        },
        trajectories: plan.collectMany { row ->
            [row.strategies, row.seeds].combinations().collect { strategy, seed -> trajectory_design(row, strategy, seed) }
        },
    ]
}

def trajectory_design(row, strategy, seed) {
    def cycles = (0..<row.cycles).toList()
    [
        id: stem(row, strategy.name, seed),
        dataset: row.dataset,
        regime: row.regime,
        strategy: strategy.name,
        seed: seed,
        nodes: cycles.collect { cycle -> node_id(row, strategy.name, seed, cycle) },
        budgets: cycles.collect { cycle -> row.start_size + cycle * row.query_size },
    ]
}

// What cannot be run, one line each. Values that `parameter_errors` names are null here and passed over.
def plan_errors(values) {
    input_errors(values) + strategy_list_errors(values) + size_errors(values) + place_errors(values)
}

def input_errors(values) {
    if( !values.input || is_phantom(values) )
        return []
    def folder = file(values.input)
    if( !folder.exists() )
        return ["--input ${values.input}: no such folder"]
    if( !folder.isDirectory() )
        return ["--input ${values.input}: not a folder; an nnU-Net raw or a Decathlon folder is wanted"]
    if( !folder.resolve('dataset.json').exists() )
        return ["--input ${values.input}: no dataset.json in it; an nnU-Net raw or a Decathlon folder is wanted"]
    if( !case_count(values) )
        return ["--input ${values.input}: no labels in labelsTr; an nnU-Net raw or a Decathlon folder is wanted"]
    return []
}

// Cases with a label in the input; 0 where that is not known.
def case_count(values) {
    if( !values.input )
        return 0
    is_phantom(values) ? values.phantom_cases ?: 0 : files("${values.input}/labelsTr/[!.]*").size()
}

def strategy_list_errors(values) {
    if( values.strategy_file && !file(values.strategy_file).exists() )
        return []
    def known = known_strategies(values)
    def texts = strategy_texts(values.strategies)
    def wrong = texts.unique(false).collectMany { text -> strategy_errors('--strategies', text, known) }
    def parsed = texts.collect { text -> parse_strategy(text, known) }.findAll { strategy -> strategy }
    def same = parsed.groupBy { strategy -> [strategy.base, strategy.options] }.values().findAll { group -> group.size() > 1 }
    def names = parsed.groupBy { strategy -> strategy.name.replaceAll(/[^A-Za-z0-9._-]/, '_') }.values().findAll { group -> group.size() > 1 && group*.name.unique().size() > 1 }
    (texts ? [] : ['--strategies: no strategy is named']) +
        wrong +
        same.collect { group -> "--strategies: ${group*.name.unique().join(' and ')} ${group*.name.unique().size() > 1 ? 'are one strategy' : 'is named twice'}; name it once" } +
        names.collect { group -> "--strategies: ${group*.name.join(' and ')} would have the same file names" } +
        start_errors(values, known) +
        own_file_errors(values)
}

def start_errors(values, known) {
    if( !values.start_strategy )
        return ['--start_strategy: no strategy is named']
    def wrong = strategy_errors('--start_strategy', values.start_strategy, known.findAll { entry -> entry.start })
    wrong
}

def own_file_errors(values) {
    if( !values.strategy_file )
        return []
    def text = file(values.strategy_file).text
    def own = own_strategies(values.strategy_file)*.name
    def built_in = strategy_registry()*.name
    (own ? [] : ["--strategy_file ${values.strategy_file}: no function is defined in it"]) +
        (own_maps(text) == null ? ["--strategy_file ${values.strategy_file}: no line MAPS = [...] that names the maps wanted; write MAPS = [] for none"] : []) +
        own.intersect(built_in).collect { name -> "--strategy_file ${values.strategy_file}: '${name}' is a built-in strategy; take another name" }
}

def size_errors(values) {
    def seeds = values.seeds ? seed_list(values.seeds) : []
    def cases = case_count(values)
    def twice = seeds.countBy { seed -> seed }.findAll { _seed, times -> times > 1 }.keySet()
    (values.seeds == null ? ['--seeds: no seed is named'] : []) +
        twice.collect { seed -> "--seeds: ${seed} is named twice; name it once" } +
        start_size_errors(values) +
        (cases == 1 ? ["--input ${values.input}: one case only; a pool and a test set need more"] : cases > 1 ? pool_errors(values, cases) : [])
}

def start_size_errors(values) {
    if( values.folds && values.start_size && values.start_size < values.folds )
        return ["--start_size ${values.start_size}: ${values.folds} folds need at least ${values.folds} patches, one each (--folds)"]
    return []
}

// Where patients are grouped, the pool may be larger than test_fraction leaves it.
def pool_errors(values, cases) {
    if( !values.test_fraction )
        return []
    def held_out = values.groups || values.group_pattern ? 1 : Math.max(1, Math.round(values.test_fraction * cases as double))
    def pool = cases - held_out
    if( pool < 1 )
        return ["--test_fraction ${values.test_fraction}: ${cases} cases leave none for the pool"]
    def most = pool * (values.patches_per_image ?: 0)
    def too_many = ['start_size', 'query_size'].findAll { name -> values[name] && most && values[name] > most }
    (values.folds && values.folds > pool ? ["--folds ${values.folds}: more folds than cases; the pool has ${pool} of ${cases} cases"] : []) +
        too_many.collect { name -> "--${name} ${values[name]}: the pool can give ${most} patches at most, ${values.patches_per_image} of each of ${pool} cases (--patches_per_image)" }
}

// Folders that must take files, by the nearest folder that exists.
def place_errors(values) {
    ['outdir', 'checkpoint_store'].collect { name ->
        if( !values[name] )
            return "--${name}: a folder is needed"
        if( values[name].contains('://') )
            return null
        def place = existing_parent(file(values[name]))
        java.nio.file.Files.isDirectory(place) && java.nio.file.Files.isWritable(place) ? null : "--${name} ${values[name]}: cannot write to ${place}"
    }.findAll { line -> line }
}

def existing_parent(path) {
    path.exists() || path.parent == null ? path : existing_parent(path.parent)
}
