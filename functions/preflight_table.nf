/*
 * The table of PREFLIGHT: a line for each capability, from what the tasks have printed, or from what is left of a task
 * that failed. bin/nnactive_nf/preflight/causes.json knows the usual reasons.
 *
 * A line is a map of [state (ok, warning, FAULT, or - where nothing was tried), check, where, what, remedy].
 */

// The checks of each task in the table's order, by their names in bin/nnactive_nf/preflight/run.py.
def task_checks(name) {
    def place = ['work folder', 'HDF5 in the work folder', 'temporary folder', 'scratch folder', 'clock']
    [
        PREFLIGHT_PYTHON: ['Python packages', 'cores and memory', 'network'],
        PREFLIGHT_FOLDERS: ['cores and memory'] + place + ['input'],
        PREFLIGHT_MEASURE: ['training'],
        PREFLIGHT_GPU: ['cores and memory', 'GPU', 'CUDA_VISIBLE_DEVICES', 'shared memory', 'checkpoint store', 'HDF5 in the store'] + place,
    ][name]
}

// Where there are data, trainings are measured too.
def task_labels(seen) {
    [PREFLIGHT_PYTHON: 'cpu_low', PREFLIGHT_FOLDERS: 'cpu', PREFLIGHT_GPU: 'gpu'] + (seen.measured ? [PREFLIGHT_MEASURE: 'gpu'] : [:])
}

// What the terminal shows at the end; what was left for the tasks is taken away.
def preflight_table(seen) {
    def lines = preflight_lines(seen)
    seen.marker.parent.deleteDir()
    seen.store_marks.each { path -> path.delete() }
    def counts = [ok: 0, warning: 0, FAULT: 0] + lines.countBy { line -> line.state }
    def sum = "${counts.ok} ok, ${counts.warning} warning${counts.warning == 1 ? '' : 's'}, ${counts.FAULT} fault${counts.FAULT == 1 ? '' : 's'}."
    def end = counts.FAULT ? 'Mend the faults, then run the preflight again.' : counts['-'] ? 'Not all was tried.' : 'The set-up holds.'
    ([''] + table_rows(lines) + ['', "${sum} ${end}"]).join('\n')
}

def table_rows(lines) {
    def all = [[state: '', check: 'capability', where: 'node', what: 'found', remedy: '']] + lines
    def widths = ['state', 'check', 'where'].collectEntries { column -> [column, all.collect { line -> line[column].size() }.max()] }
    def told = []
    all.collectMany { line ->
        def cells = widths.collect { column, width -> line[column].padRight(width) }.join('  ')
        def remedy = line.remedy in told ? 'as above' : line.remedy
        told << line.remedy
        ["${cells}  ${line.what}"] + (line.remedy ? ["${' ' * cells.size()}  -> ${remedy}"] : [])
    }
}

// All lines. They are made once, since files that other nodes have written may be waited for.
def preflight_lines(seen) {
    seen.table.computeIfAbsent('lines') { _key ->
        seen.launcher + task_labels(seen).collectMany { name, label -> task_lines(seen, name, label) }
    }
}

def task_lines(seen, name, label) {
    def noted = seen.tasks[name] ?: left_behind(seen, name)
    def printed = noted.text ?: text_of(noted.folder, '.command.out')
    def folder = value_after(printed, 'preflight folder: ')
    def log = text_of(noted.folder ?: (folder ? file(folder) : null), '.command.log')
    def where = "${node_of_task(seen, name, noted, log, printed)} (${label})".toString()
    def started = folder ? [[state: 'ok', check: 'task starts', where: where, what: value_after(printed, 'preflight place: '), remedy: '']] : []
    def found = values_after(printed, 'preflight finding: ').collect { json -> finding_line(seen, noted, where, new groovy.json.JsonSlurper().parseText(json)) }
    def begun = values_after(printed, 'preflight check: ')
    if( noted.text )
        return started + found + untried_lines(name, begun, where)
    def stopped_in = folder ? begun.find { check -> !(check in found*.check) } ?: 'Python starts' : 'task starts'
    def reason = [check: stopped_in, where: where] + reason_of(noted, error_report(name), log)
    started + found + [reason] + (reason.state == '-' ? [] : untried_lines(name, begun, where))
}

// What a task has left in its work folder where the run has ended before Nextflow told of it.
def left_behind(seen, name) {
    def script = files("${workflow.workDir.toUriString()}/??/*/.command.run", hidden: true).find { path ->
        path.lastModified() >= seen.started - 1000 && path.text.contains("### name: 'PREFLIGHT:${name} ")
    }
    def exit = text_of(script?.parent, '.exitcode').trim()
    if( !exit )
        return [:]
    def noted = [exit: exit as Integer, folder: script.parent, at: System.currentTimeMillis(), executor: '', fatal: false]
    noted + (noted.exit == 0 ? [text: text_of(noted.folder, '.command.out')] : [:])
}

// Nextflow's message, where it is about this process.
def error_report(name) {
    def report = workflow.errorReport ?: ''
    report.contains(":${name} (") ? report : ''
}

// The node that a task ran on, or the launcher's where it could not be submitted.
def node_of_task(seen, name, noted, log, printed) {
    def here = noted.executor == 'local' || error_report(name) =~ /submit |Cannot run program|Failed to pull/
    value_after(log, 'preflight node: ') ?: value_after(printed, 'preflight node: ') ?: (here ? seen.node : '?')
}

// The checks that a task did not come to, but for those that it may not have been told.
def untried_lines(name, begun, where) {
    def left = task_checks(name) - begun - ['scratch folder', 'input']
    left ? [[state: '-', check: 'not tried', where: where, what: left.join(', '), remedy: '']] : []
}

// A task's finding, and what only the launcher can tell: that the task's file is seen here, and that the clocks agree.
def finding_line(seen, noted, where, finding) {
    def line = finding.subMap(['check', 'what', 'remedy']) + [state: finding.state == 'fault' ? 'FAULT' : finding.state, where: where]
    if( finding.wrote && !is_seen(file(finding.wrote), seen.token, seen.patience) )
        return line + [state: 'FAULT', what: "${finding.wrote}: written there, not seen by the launcher", remedy: 'the nodes and the launcher must see one file system there']
    line + (finding.time ? clock_cells(finding.time * 1000, seen.started, noted.at) : [:])
}

// A node's clock showed `time` at a moment that was between two times of the launcher (all in milliseconds).
def clock_cells(time, start, end) {
    def off = time < start ? start - time : time > end ? time - end : 0
    def seconds = Math.round(off / 1000 as double)
    seconds < 5
        ? [what: "agrees with the launcher's"]
        : [state: 'warning', what: "${seconds} s or more ${time < start ? 'behind' : 'ahead of'} the launcher's", remedy: 'have the clocks set (NTP): files seem older or newer than they are']
}

// Whether a file holds the text; shared file systems may show it some seconds late.
def is_seen(path, text, seconds) {
    if( path.exists() && path.text == text )
        return true
    if( seconds <= 0 )
        return false
    sleep(1000)
    is_seen(path, text, seconds - 1)
}

// Why a task has failed, by its log and Nextflow's message: [state, what, remedy].
def reason_of(noted, report, log) {
    if( !report && !log && (!noted || noted.fatal) )
        return [state: '-', what: 'not tried, the run ended before', remedy: '']
    def status = noted.exit == null || noted.exit == Integer.MAX_VALUE ? 'no exit status' : "exit status ${noted.exit}"
    def text = [log, report, status].join('\n')
    def causes = new groovy.json.JsonSlurper().parseText(file("${projectDir}/bin/nnactive_nf/preflight/causes.json").text)
    def cause = causes.find { entry -> text =~ entry.pattern }
    if( cause ) {
        def found = (text =~ cause.pattern)[0]
        return [state: 'FAULT', what: filled(cause.what, found), remedy: filled(cause.remedy, found)]
    }
    def said = log.readLines().findAll { line -> line.trim() && !line.startsWith('preflight ') }
    def what = ([status] + said.takeRight(1)).collect { part -> part.trim().take(200) }.join(': ')
    [state: 'FAULT', what: what, remedy: "the whole message is in ${noted.folder ? "${noted.folder}/.command.log" : '.nextflow.log'}"]
}

// A text in which {0} stands for what a pattern has found, {1}, {2}, .. for its groups.
def filled(text, found) {
    def groups = found instanceof List ? found : [found]
    (0..<groups.size()).inject(text) { filling, i -> filling.replace("{${i}}", (groups[i] ?: '').trim()) }
}

def text_of(folder, name) {
    def path = folder?.resolve(name)
    path?.exists() ? path.text : ''
}

def values_after(text, start) {
    text.readLines().findAll { line -> line.startsWith(start) }*.substring(start.size())
}

def value_after(text, start) {
    values_after(text, start).find { value -> value }
}
