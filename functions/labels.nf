/*
 * Resource labels: what the cost reports of clouds can be grouped by. AWS Batch, Google Batch and Kubernetes attach them to
 * a task; the other executors take no notice of them.
 */

// Labels of a task: pipeline, stage, and the given ones (maps, null is left out), with a site's own (ext.resource_labels)
// last. Azure Batch makes a pool of machines for each set of labels, so there they are the same for all tasks.
def labels_of(task, given) {
    def own = [pipeline: workflow.manifest.name, stage: task.process.tokenize(':').last()] + given
    def kept = task.executor == 'azurebatch' ? own.subMap(['pipeline']) : own
    kept.findAll { _name, value -> value != null }.collectEntries { name, value -> [name, label_text(value)] } + (task.ext.resource_labels ?: [:])
}

// Data set, regime, strategy, seed and cycle of a node or a trajectory. All strategies share a start.
def where(meta) {
    meta.subMap(['dataset', 'regime', 'seed', 'cycle']) + [strategy: meta.strategy ?: 'start']
}

// What all these clouds allow: lower case letters, digits, - and _, a letter or digit at both ends, at most 63 of them. A
// longer text ends with a digest of it all.
def label_text(value) {
    def text = value.toString().toLowerCase()
    def allowed = text.replaceAll(/[^a-z0-9_-]+/, '-').replaceAll(/^[_-]+|[_-]+$/, '')
    allowed.size() <= 63 ? allowed : allowed.take(54).replaceAll(/[_-]+$/, '') + '-' + text.md5().take(8)
}
