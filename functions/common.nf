/*
 * Small functions that the entry and the workflows share.
 */

// Digest of the code that a stage rests on: `core`, the stage's own folder, its command. Nextflow hashes a task's
// script alone, so this goes into every task as an input.
def code_digest(stage) {
    def sources = "${projectDir}/bin/{${stage}.py,nnactive_nf/core/**,nnactive_nf/${stage}/**}"
    files(sources, type: 'file')
        .findAll { path -> !path.toString().contains('__pycache__') }
        .collect { path -> "${path.toString() - projectDir.toString()}\n${path.text}" }
        .sort().join('\n').md5()
}

// Digest of names, sizes and times of a folder's files: Nextflow takes a folder's own time only, which does not change
// with its files.
def folder_digest(folder) {
    files("${folder}/**", type: 'file')
        .collect { path -> "${path} ${path.size()} ${path.lastModified()}" }
        .sort().join('\n').md5()
}

// JSON text, the same for the same content.
def json(content) {
    groovy.json.JsonOutput.prettyPrint(groovy.json.JsonOutput.toJson(content)) + '\n'
}

// What CHECK found, [stage: [bytes, each]]; zeros where its file is empty (-stub-run).
def needs_of(path) {
    def told = path.size() ? new groovy.json.JsonSlurper().parse(path).memory : [:]
    ['prepare', 'train', 'predict', 'evaluate', 'query', 'views', 'annotate', 'export', 'receive', 'measure'].collectEntries { stage ->
        [stage, ['bytes', 'each'].collectEntries { name -> [name, (told[stage]?.get(name) ?: 0) as long] }]
    }
}

// Mean Dice of the foreground classes; null where there is none, as in the empty metrics of a stub run.
def mean_dice(path) {
    try {
        return new groovy.json.JsonSlurper().parseText(path.text).mean.foreground.dice
    }
    catch( Exception _error ) {
        return null
    }
}

// The last words of a run. In a terminal Nextflow draws its list of tasks once more when all has ended, over whatever was
// written below it in between; so this waits a moment.
def tell_at_end(text) {
    if( System.console() )
        sleep(1000)
    println(text)
}

// What is wrong with a folder that must take files, in one line; null where it takes them. Tried in the nearest folder
// that exists, for permissions alone do not tell (root, read-only mounts).
def unwritable(path, where) {
    if( !path.exists() && path.parent != null )
        return unwritable(path.parent, where)
    try {
        java.nio.file.Files.delete(java.nio.file.Files.createTempFile(path, '.nnactive-nf-', '.tmp'))
        return null
    }
    catch( Exception _error ) {
        return "${where}: cannot write to ${path}; is it a folder, and may you write to it?"
    }
}

// Items [meta, ...] of a channel with what another holds of their data set ([dataset, ...]) behind.
def with_dataset(items, datasets) {
    items.map { item -> [item[0].dataset] + item }.combine(datasets, by: 0).map { item -> item.drop(1) }
}
