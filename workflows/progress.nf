/*
 * PROGRESS: what a person who watches the terminal is told. One line when a node's labels are made, one when it is
 * evaluated, and at the end the mean Dice of each strategy.
 */
include { mean_dice } from '../functions/common.nf'
include { annotation_rounds ; labelled_patches ; node_id ; not_made ; row_of } from '../functions/plan.nf'

workflow PROGRESS {
    take:
    plan // rows, see functions/plan.nf
    labels // [node, label masks]
    metrics // [node, metrics]
    awaited // [node, table of what people have delivered], for nodes that wait and all that follow from them
    stopped // [first node that is not made, table that says why], for trajectories that have stopped
    told // filled here: evaluated, id of a node -> [older, dice]; awaited, id of a node -> [node, patches, those not there];
    // stopped, id of a node -> [node, why]

    main:
    def seen = [
        total: annotation_rounds(plan),
        width: name_width(plan),
        evaluated: told.evaluated,
        stopped: told.stopped,
        waiting: new java.util.concurrent.ConcurrentHashMap(), // id of a node -> the node, its labels of an earlier run
        count: new java.util.concurrent.atomic.AtomicInteger(),
        clock: new java.util.Timer(true),
    ]
    labels.subscribe { node, masks ->
        if( is_older(masks) ) {
            seen.waiting[node.id] = node
            tell_earlier_when_quiet(plan, seen)
        }
        else {
            log.info(training_line(plan, seen, node))
        }
    }
    awaited.filter { node, table -> table.baseName == node.id }.subscribe { node, table ->
        def patches = table.size() ? table.splitCsv(header: true).findAll { row -> row.case && !(row.state in ['reserve', 'outside']) } : [] // empty: -stub-run
        told.awaited[node.id] = [node: node, patches: patches.count { row -> !row.stands_for }, missing: patches.count { row -> !(row.state in ['done', 'refused']) }]
    }
    metrics.mix(stopped).subscribe(
        onNext: { node, file ->
            if( file.name.endsWith('.csv') ) {
                told.stopped[node.id] = [node: node, why: file.size() ? file.splitCsv(header: true, quote: '"')[0].why : 'stopped'] // empty: -stub-run
                log.info(stop_line(plan, seen, node))
                return
            }
            seen.evaluated[node.id] = [older: is_older(file), dice: mean_dice(file)]
            if( is_older(file) )
                tell_earlier_when_quiet(plan, seen)
            else
                log.info(dice_line(plan, seen, node))
        },
        onComplete: {
            if( is_complete(plan, seen) )
                log.info(summary(plan, seen))
        },
    )
}

// Whether a file was there before this run. Nextflow does not tell which tasks -resume took from an earlier run.
def is_older(path) {
    workflow.resume && path.lastModified() < workflow.start.toInstant().toEpochMilli()
}

// What an earlier run left comes all at once: it is told when for five seconds no more has come, unless the summary has
// said it by then: how many nodes an earlier run has evaluated, and those that this one goes on with.
def tell_earlier_when_quiet(plan, seen) {
    def number = seen.count.incrementAndGet()
    seen.clock.runAfter(5000) {
        if( seen.count.get() == number && !is_complete(plan, seen) ) {
            log.info("${earlier(seen)} of ${seen.total} ensembles were done by an earlier run")
            seen.waiting.values().findAll { node -> !seen.evaluated.containsKey(node.id) }.sort { node -> node.id }
                .each { node -> log.info(training_line(plan, seen, node)) }
            seen.waiting.clear()
        }
    }
}

// Whether all is evaluated that is to be.
def is_complete(plan, seen) {
    seen.evaluated.size() + not_made(plan, seen.stopped).size() == seen.total
}

def earlier(seen) {
    seen.evaluated.values().count { found -> found.older }
}

def training_line(plan, seen, node) {
    def row = row_of(plan, node)
    def shared = node.cycle == 0 && row.strategies.size() > 1 ? ", shared by ${row.strategies.size()} strategies" : ''
    def what = row.whole_pool ? 'all labels of the pool' : "${labelled_patches(row, node.cycle)} patches${shared}"
    "${place(plan, seen, node)} trains on ${what}"
}

def dice_line(plan, seen, node) {
    def dice = seen.evaluated[node.id].dice
    def start = node.cycle > 0 ? seen.evaluated[node_id(row_of(plan, node), '', node.seed, 0)]?.dice : null
    def found = dice == null ? 'evaluated' : "mean Dice ${decimals(dice)}" + (start == null ? '' : " (${decimals(start)} at the start)")
    "${place(plan, seen, node)} ${found}; ${seen.evaluated.size()} of ${seen.total} ensembles done"
}

def stop_line(plan, seen, node) {
    "${place(plan, seen, node)} is not labelled: ${seen.stopped[node.id].why}"
}

// Whose labels and which cycle, as wide for every node.
def place(plan, seen, node) {
    def row = row_of(plan, node)
    def name = who(plan, row, node.strategy ?: start_name(row), node.seed)
    "${name.padRight(seen.width)}  ${row.whole_pool ? 'reference' : "cycle ${node.cycle} of ${row.cycles - 1}"}:"
}

// Characters of the longest name, within reason.
def name_width(plan) {
    def sizes = plan.collectMany { row ->
        [[start_name(row)] + row.strategies*.name, row.seeds].combinations().collect { strategy, seed -> who(plan, row, strategy, seed).size() }
    }
    [sizes.max(), 40].min()
}

// What stands for a strategy at cycle 0, which all strategies share.
def start_name(row) {
    row.whole_pool ? row.regime : 'start'
}

def who(plan, row, strategy, seed) {
    [setting(plan, row), strategy, "s${seed}"].findAll { part -> part }.join(' ')
}

// Data set and regime, each where there are several.
def setting(plan, row) {
    def loops = plan.findAll { r -> !r.whole_pool }
    def dataset = loops*.dataset.unique().size() > 1 ? row.dataset : ''
    def regime = loops*.regime.unique().size() > 1 && !row.whole_pool ? row.regime : ''
    [dataset, regime].findAll { part -> part }.join(' ')
}

// The end of it, with a line for each strategy where these are few: means over the seeds, at the start and at the end.
def summary(plan, seen) {
    def taken = earlier(seen) ? ", ${earlier(seen)} of them by an earlier run" : ''
    def ends = plan.findAll { row -> !row.whole_pool }.collectMany { row ->
        row.strategies.collect { strategy ->
            def name = [setting(plan, row), strategy.name].findAll { part -> part }.join(' ')
            [name] + [0, row.cycles - 1].collect { cycle ->
                def found = row.seeds.collect { seed -> seen.evaluated[node_id(row, strategy.name, seed, last_made(row, seen, strategy, seed, cycle))]?.dice }
                found.contains(null) ? null : found.sum() / found.size()
            }
        }
    }
    def shown = ends.size() > 24 ? [] : ends.findAll { line -> !line.contains(null) }
    def width = shown.collect { line -> line[0].size() }.max()
    def lines = shown.collect { name, first, last -> "${name.padRight(width)}  ${decimals(first)}  ${decimals(last)}" }
    def many = seen.stopped.size()
    def stops = many ? ", ${many} ${many == 1 ? 'trajectory has' : 'trajectories have'} stopped before the plan's end" : ''
    (["All ${seen.evaluated.size()} ensembles are evaluated${taken}${stops}." + (lines ? ' Mean Dice at the start and at the end:' : '')] + lines).join('\n')
}

// The cycle, or the last one that is made where a trajectory has stopped before.
def last_made(row, seen, strategy, seed, cycle) {
    (cycle..0).find { before -> seen.evaluated.containsKey(node_id(row, strategy.name, seed, before)) } ?: 0
}

def decimals(number) {
    String.format(Locale.ROOT, '%.3f', number as double)
}
