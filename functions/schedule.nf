/*
 * When a plan is done on so many GPUs: list scheduling, first come first served. Trainings, predictions and evaluations
 * wait for a GPU; the CPU's stages (preparation, queries with annotation) are taken to start at once.
 */
include { maps_of ; next_trajectories ; node_of } from './plan.nf'

// Minutes of each stage's task where a trace or the user does not say, as shares of a training. A query is with its
// annotation, a prediction of the whole pool.
def shares_of_a_training() {
    [PREPARE: 0, PREDICT: 0.1, EVALUATE: 0.25, QUERY: 0.02]
}

// Rows of a Nextflow trace as [stage, tag, minutes], of tasks that ended well, now or in a run before; null for another
// file.
def trace_rows(path) {
    def lines = path.readLines().findAll { line -> line.trim() }
    def header = lines ? lines[0].split('\t').toList() : []
    def columns = ['name', 'status', 'realtime'].collect { name -> header.indexOf(name) }
    if( columns.contains(-1) )
        return null
    lines.drop(1)
        .collect { line -> line.split('\t', -1).toList() }
        .findAll { cells -> cells.size() == header.size() && cells[columns[1]] in ['COMPLETED', 'CACHED'] }
        .collect { cells -> trace_row(cells[columns[0]], minutes_of(cells[columns[2]])) }
        .findAll { row -> row.minutes != null }
}

// ACTIVE_LEARNING:TRAIN (<node> fold 0)
def trace_row(name, minutes) {
    def words = name.tokenize(' ')
    [stage: words[0].tokenize(':').last(), tag: words.size() > 1 ? words[1].replaceAll(/[()]/, '') : '', minutes: minutes]
}

// 1h 2m 3s, 450ms, or plain milliseconds; null for '-'.
def minutes_of(text) {
    def units = [ms: 1 / 60000d, s: 1 / 60d, m: 1d, h: 60d, d: 1440d]
    if( text ==~ /\d+/ )
        return (text as double) * units.ms
    def parts = (text =~ /(\d+(?:\.\d+)?)(ms|s|m|h|d)\b/).collect { match -> (match[1] as double) * units[match[2]] }
    parts ? parts.sum() : null
}

// Which of these data sets a tag belongs to: it is the name, or begins with it and '-'. Names may begin alike.
def dataset_of_tag(tag, datasets) {
    datasets.findAll { dataset -> tag == dataset || tag.startsWith("${dataset}-") }.max { dataset -> dataset.size() }
}

// For each data set and stage [minutes, source]: 'trace', 'all' (the trace's other data sets), 'given' or 'assumed'.
def stage_minutes(plan, trace, given) {
    plan*.dataset.unique().collectEntries { dataset ->
        def shards = plan.findAll { row -> row.dataset == dataset }*.shards.max()
        [dataset, dataset_minutes(dataset, plan*.dataset.unique(), shards, trace, given)]
    }
}

def dataset_minutes(dataset, datasets, shards, trace, given) {
    def training = measured('TRAIN', dataset, datasets, trace, given)
    def annotation = given.QUERY == null ? measured('ANNOTATE', dataset, datasets, trace, given) : null
    [TRAIN: training] + shares_of_a_training().collectEntries { stage, share ->
        def found = measured(stage, dataset, datasets, trace, given)
        def assumed = [minutes: training.minutes * share / (stage == 'PREDICT' ? shards : 1), source: 'assumed']
        def more = found && annotation && stage == 'QUERY' ? annotation.minutes : 0
        [stage, found ? [minutes: found.minutes + more, source: found.source] : assumed]
    }
}

// What the user says goes first, then the data set's own tasks, then those of others.
def measured(stage, dataset, datasets, trace, given) {
    if( given[stage] != null )
        return [minutes: given[stage], source: 'given']
    def all = trace.findAll { row -> row.stage == stage }
    def own = all.findAll { row -> dataset_of_tag(row.tag, datasets) == dataset }
    def rows = own ?: all
    rows ? [minutes: rows*.minutes.sum() / rows.size(), source: own ? 'trace' : 'all'] : null
}

// All nodes as the scheduler wants them: [folds, shards, minutes by stage, first (when their labels come, where they follow
// from no node, or null), free (nodes whose labels follow without a model), asked (those that want this node's maps)], the
// last two as places in the list. `groups` as of `node_groups`.
def jobs_of(groups, minutes) {
    def place_of = groups*.nodes.flatten().withIndex().collectEntries { node, i -> [node.id, i] }
    groups.collectMany { group ->
        def row = group.row
        def times = row_minutes(groups[0].row, row, minutes[row.dataset])
        group.nodes.collect { node ->
            def next = [false, true].collect { needs_model ->
                next_trajectories(group.plan, node, needs_model).collect { trajectory -> place_of[node_of(group.plan, trajectory).id] }
            }
            [
                folds: row.folds,
                shards: maps_of(group.plan, node) ? row.shards : 0,
                minutes: times,
                first: node.cycle > 0 ? null : times.PREPARE + (row.whole_pool ? 0 : times.QUERY),
                free: next[0],
                asked: next[1],
            ]
        }
    }
}

// Minutes given are those of the first row's trainings; others are longer or shorter with their iterations.
def row_minutes(first, row, minutes) {
    def factor = minutes.TRAIN.source == 'given' ? row.epochs * row.iterations / (first.epochs * first.iterations as double) : 1
    minutes.collectEntries { stage, time -> [stage, (stage == 'TRAIN' ? factor * time.minutes : time.minutes) as double] }
}

// Hours of GPUs that a plan takes.
def gpu_hours(jobs) {
    jobs.sum { job -> job.folds * job.minutes.TRAIN + job.shards * job.minutes.PREDICT + job.minutes.EVALUATE } / 60
}

// Minutes until the last task has ended. What is ready first comes first, on the GPU that is free first; whatever a task
// releases is ready when it ends, so tasks leave the queue in the order in which they were ready.
def minutes_to_finish(jobs, gpus) {
    def state = [
        jobs: jobs,
        queue: new PriorityQueue({ a, b -> a.ready <=> b.ready ?: a.number <=> b.number }),
        added: 0,
        free: new PriorityQueue([0d] * gpus), // when each GPU is free
        left: jobs.collect { job -> [TRAIN: job.folds, PREDICT: job.shards, EVALUATE: 1] },
        ends: jobs.collect { _job -> [TRAIN: 0d, PREDICT: 0d, EVALUATE: 0d] },
    ]
    jobs.eachWithIndex { job, place -> enqueue(state, job.first, place, 'LABELS', job.first == null ? 0 : 1) }
    def events = jobs.sum { job -> 2 + job.folds + job.shards } // labels and evaluation, trainings, predictions
    (0..<events).each {
        def task = state.queue.poll()
        if( task.stage == 'LABELS' )
            labels_come(state, task.ready, task.place)
        else
            gpu_task(state, task)
    }
    state.ends*.values().flatten().max()
}

def enqueue(state, ready, place, stage, times) {
    times.times {
        state.added += 1
        state.queue.add([ready: ready, number: state.added, place: place, stage: stage])
    }
}

def labels_come(state, now, place) {
    def job = state.jobs[place]
    enqueue(state, now, place, 'TRAIN', job.folds)
    query(state, now, job.free)
}

// Labels of the nodes at these places follow when their query is done.
def query(state, now, places) {
    places.each { place -> enqueue(state, now + state.jobs[place].minutes.QUERY, place, 'LABELS', 1) }
}

def gpu_task(state, task) {
    def job = state.jobs[task.place]
    def left = state.left[task.place]
    def ends = state.ends[task.place]
    def end = Math.max(task.ready as double, state.free.poll() as double) + job.minutes[task.stage]
    state.free.add(end)
    left[task.stage] -= 1
    ends[task.stage] = Math.max(end, ends[task.stage])
    def last = ends[task.stage]
    if( task.stage == 'TRAIN' && left.TRAIN == 0 ) {
        enqueue(state, last, task.place, 'EVALUATE', 1)
        enqueue(state, last, task.place, 'PREDICT', job.shards)
    }
    if( task.stage == 'PREDICT' && left.PREDICT == 0 )
        query(state, last, job.asked)
}
