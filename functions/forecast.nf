/*
 * --plan: what a run would take, in tasks, on disk and in time, told without running any of it.
 */
include { is_awaited } from './decathlon.nf'
include { disk_of ; row_key } from './disk.nf'
include { is_phantom ; maps_of ; next_trajectories ; node_of ; reference_nodes ; start_trajectories } from './plan.nf'
include { gpu_hours ; jobs_of ; minutes_to_finish ; shares_of_a_training ; stage_minutes ; trace_rows } from './schedule.nf'

// What is wrong with the parameters of --plan, one line each.
def forecast_errors(values) {
    if( !values.plan || !values.plan_trace || !file(values.plan_trace).exists() )
        return []
    def where = "--plan_trace ${values.plan_trace}"
    def rows = file(values.plan_trace).isDirectory() ? null : trace_rows(file(values.plan_trace))
    if( rows == null )
        return ["${where}: no trace of Nextflow; a table with the columns name, status and realtime is wanted, as <outdir>/pipeline_info/trace.txt is"]
    if( !values.plan_minutes && !rows.any { row -> row.stage == 'TRAIN' } )
        return ["${where}: no training of this workflow has ended in it; give the minutes of one with --plan_minutes"]
    return []
}

// The text that --plan prints.
def forecast(plan, values) {
    def groups = node_groups(plan)
    def apart = node_groups(without_sharing(plan))
    def counts = groups.collect { group -> row_counts(group) }
    def once = once_counts(plan)
    def tasks = once.values().sum() + counts.sum { row -> stages().sum { stage -> row[stage] } }
    def saved = trainings(apart) - trainings(groups)
    def lines = count_lines(counts) + [
        "${once.collect { stage, number -> "${stage} ${whole(number)}" }.join(', ')}; ${whole(tasks)} tasks in all.",
        saved ? "Strategies share the nodes of cycle 0, which saves ${whole(saved)} of ${whole(trainings(apart))} trainings." : null,
        '',
    ]
    def texts = lines + disk_lines(plan, disk_of(groups, tasks, values)) + [''] + time_lines(groups, apart, values)
    texts.findAll { line -> line != null }.join('\n')
}

// A plan's rows with their nodes: [row, plan, nodes]. Each row counts as a plan of its own, in which things are found at
// once.
def node_groups(plan) {
    plan.collect { row -> [row: row, plan: [row], nodes: plan_nodes([row])] }
}

// All nodes of a plan, cycle by cycle.
def plan_nodes(plan) {
    def first = start_trajectories(plan).collect { trajectory -> node_of(plan, trajectory) } + reference_nodes(plan)
    def cycles = (1..<plan*.cycles.max()).inject([first]) { before, _cycle -> before + [next_nodes(plan, before.last())] }
    cycles.collectMany { nodes -> nodes }
}

def next_nodes(plan, nodes) {
    nodes.collectMany { node -> [false, true].collectMany { needs_model -> next_trajectories(plan, node, needs_model) } }
        .collect { trajectory -> node_of(plan, trajectory) }
}

// The same plan, were each strategy a run of its own.
def without_sharing(plan) {
    plan.collectMany { row ->
        row.strategies.size() < 2 ? [row] : row.strategies.collect { strategy -> row + [strategies: [strategy], regime: "${row.regime}/${strategy.name}".toString()] }
    }
}

// The stages that are counted by row.
def stages() {
    ['QUERY', 'ANNOTATE', 'TRAIN', 'PREDICT', 'EVALUATE']
}

// Tasks of a row by stage, and what else there is to count.
def row_counts(group) {
    def row = group.row
    def nodes = group.nodes.size()
    [
        name: "${row.dataset} ${row.regime}${row.whole_pool ? ' (whole pool)' : ''}",
        QUERY: row.whole_pool ? 0 : nodes,
        ANNOTATE: nodes,
        TRAIN: nodes * row.folds,
        PREDICT: group.nodes.count { node -> maps_of(group.plan, node) } * row.shards,
        EVALUATE: nodes,
        nodes: nodes,
        trajectories: row.strategies.size() * row.seeds.size(),
        patches: row.whole_pool ? 0 : group.nodes.sum { node -> node.cycle == 0 ? row.start_size : row.query_size },
    ]
}

// Tasks of the stages that run once per data set, and of those that run once.
def once_counts(plan) {
    def datasets = plan.groupBy { row -> row.dataset }.values().collect { rows -> rows[0] }
    def made = [PHANTOM: datasets.count { row -> is_phantom(row) }, DOWNLOAD: datasets.count { row -> is_awaited(row) }]
    made.findAll { _stage, number -> number } + [PREPARE: datasets.size(), ANALYSE: 1, REPORT: 1]
}

def count_lines(counts) {
    def columns = stages() + ['nodes', 'trajectories', 'patches']
    def total = [name: counts.size() > 1 ? 'in all' : counts[0].name] + columns.collectEntries { column -> [column, counts.sum { row -> row[column] }] }
    def rows = (counts.size() > 1 ? counts : []) + [total]
    table([['Tasks'] + columns] + rows.collect { row -> [row.name] + columns.collect { column -> whole(row[column]) } })
}

def trainings(groups) {
    groups.sum { group -> group.nodes.size() * group.row.folds }
}

def disk_lines(plan, disk) {
    def columns = ['work', 'results', 'store']
    def total = [part: 'in all'] + columns.collectEntries { column -> [column, disk.parts.sum { part -> part[column] ?: 0 }] }
    def rows = (disk.parts + [total]).collect { part -> [part.part] + columns.collect { column -> part[column] ? bytes(part[column]) : '-' } }
    def unknown = disk.images.findAll { _dataset, images -> images.unknown }.keySet()
    def maps = disk.parts.find { part -> part.part == 'uncertainty maps' }.work
    table([['Images']] + disk.images.collect { dataset, images -> [dataset, images_text(plan, dataset, images, disk.networks)] }) +
        [''] +
        table([['Disk'] + columns] + rows) +
        [
            unknown ? "Not in it, for lack of images: images and maps of ${unknown.join(', ')}." : null,
            maps ? "With --cleanup_work work grows to ${bytes(total.work - maps)}, and by up to ${bytes(disk.largest_maps)} for each node whose maps wait for queries." : null,
            'Networks are hard links in work where it shares a file system with the store and no container is used; else they are there again.',
        ]
}

def images_text(plan, dataset, images, networks) {
    def rows = plan.findAll { row -> row.dataset == dataset }
    def sizes = rows.collect { row -> networks[row_key(row)].parameters }.unique().sort()
    def network = "networks of ${sizes.collect { size -> decimal(size / 1e6) }.join(' and ')} million parameters"
    if( images.unknown )
        return "not known: ${images.unknown}; ${network} are assumed"
    "${whole(images.cases)} cases of about ${images.shape.collect { length -> Math.round(length as double) }.join(' x ')} voxels, channels ${images.channels}, classes ${images.classes}; ${network}"
}

def time_lines(groups, apart, values) {
    if( !values.plan_trace && !values.plan_minutes )
        return ['For the time: --plan_trace with the trace of an earlier run, or --plan_minutes with the minutes of one training.']
    def trace = values.plan_trace ? trace_rows(file(values.plan_trace)) : []
    def minutes = stage_minutes(groups*.row, trace, given_minutes(values.plan_minutes))
    def stages = ['PREPARE', 'TRAIN', 'PREDICT', 'EVALUATE', 'QUERY']
    def marks = [trace: '', given: '', all: '~', assumed: '*']
    def gpus = values.plan_gpus.split(',').collect { text -> text.trim() as Integer }
    def rows = ['shared at cycle 0': groups, 'not shared': apart].collect { name, nodes ->
        def jobs = jobs_of(nodes, minutes)
        [name, decimal(gpu_hours(jobs))] + gpus.collect { number -> duration(minutes_to_finish(jobs, number)) }
    }
    def sources = minutes.values()*.values().flatten()*.source
    table([['Minutes of a task'] + stages] + minutes.collect { dataset, times ->
        [dataset] + stages.collect { stage -> decimal(times[stage].minutes) + marks[times[stage].source] }
    }) + [
        'assumed' in sources ? "* assumed: ${shares_text()} of a training's time" : null,
        'all' in sources ? '~ mean over the data sets in the trace' : null,
        '',
    ] + table([['Time', 'GPU hours'] + gpus.collect { number -> "${whole(number)} GPU${number > 1 ? 's' : ''}" }] + rows)
}

def shares_text() {
    def names = [PREDICT: 'of the pool', QUERY: 'with ANNOTATE']
    shares_of_a_training().collect { stage, share -> "${stage} ${names[stage] ? "(${names[stage]}) " : ''}${Math.round(100 * share as double)}%" }.join(', ')
}

// Minutes by stage as the user gives them: of a training, a prediction of a shard, an evaluation, a query.
def given_minutes(text) {
    def minutes = text ? text.split(',').collect { part -> part.trim() as double } : []
    ['TRAIN', 'PREDICT', 'EVALUATE', 'QUERY'].take(minutes.size()).withIndex().collectEntries { stage, i -> [stage, minutes[i]] }
}

// Lines of a table: the first column to the left, the others to the right, a lone second one as it is.
def table(rows) {
    def columns = (0..<rows*.size().max()).collect { i -> rows.collect { cells -> "${cells[i] ?: ''}".size() }.max() }
    rows.collect { cells ->
        cells.withIndex().collect { cell, i -> i == 0 ? "${cell}".padRight(columns[0]) : rows[0].size() > 1 ? "${cell}".padLeft(columns[i]) : cell }.join('  ').trim()
    }
}

def whole(number) {
    String.format(Locale.ROOT, '%,d', number as long)
}

// A number in two digits, or without a fraction.
def decimal(number) {
    def value = number as double
    value < 9.95 ? String.format(Locale.ROOT, value < 0.95 && value > 0 ? '%.2f' : '%.1f', value) : whole(Math.round(value))
}

def bytes(number) {
    def power = number < 1 ? 0 : Math.min(5, Math.floor(Math.log10(number as double) / 3 + 1e-9) as int)
    "${decimal(number / 1000d.power(power))} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][power]}"
}

def duration(minutes) {
    minutes < 120 ? "${decimal(minutes)} min" : minutes < 48 * 60 ? "${decimal(minutes / 60)} h" : "${decimal(minutes / 1440)} days"
}
