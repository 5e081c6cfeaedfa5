/*
 * What a study's author gives in files: the test set (--test_cases), the first patches (--start_queries), the folds
 * (--folds_file), nnU-Net's plans (--plans), weights to start from (--initial_weights), a trainer (--trainer_file).
 */

// --test_cases imagesTs stands for the cases of nnU-Net's imagesTs and labelsTs.
def is_test_folder(values) {
    values.test_cases == 'imagesTs'
}

// The cases that --test_cases holds out: the lines of a text file without remarks (#), or the test cases in a table with the
// columns case and split, such as an earlier run's cases.csv. They are read here and go to tasks by their names, so that a
// run may replace the file that they come from, and nothing runs anew where it says the same.
def held_out_cases(values) {
    if( !values.test_cases || is_test_folder(values) )
        return []
    def path = file(values.test_cases)
    def lines = text_lines(path)
    def header = lines ? lines[0].tokenize(',')*.trim() : []
    if( !header.containsAll(['case', 'split']) )
        return lines
    def rows = path.splitCsv(quote: '"', strip: true).findAll { cells -> cells.any { cell -> cell } && !"${cells[0]}".startsWith('#') }
    def (name, side) = ['case', 'split'].collect { column -> rows[0]*.replace('\uFEFF', '').indexOf(column) }
    rows.drop(1).findAll { cells -> cells[side] == 'test' }.collect { cells -> cells[name] }
}

// Lines of a text without blank ones and remarks. `text` heeds no encoding that is not UTF-8, so it is decoded here.
def text_lines(path) {
    def text = java.nio.charset.StandardCharsets.UTF_8.newDecoder().decode(java.nio.ByteBuffer.wrap(path.bytes)).toString()
    text.replace('\uFEFF', '').readLines()*.trim().findAll { line -> line && !line.startsWith('#') }
}

// What is wrong with such a file, whatever the data.
def test_case_errors(values) {
    if( !values.test_cases || is_test_folder(values) )
        return []
    def where = "--test_cases ${values.test_cases}"
    def wanted = "a text file with a case in each line, an earlier run's cases.csv, or 'imagesTs' is wanted"
    def path = file(values.test_cases)
    if( !path.exists() )
        return ["${where}: no such file; ${wanted}"]
    if( !path.isFile() )
        return ["${where}: not a file; ${wanted}"]
    try {
        return held_out_cases(values) ? [] : ["${where}: no test case in it; ${wanted}"]
    }
    catch( java.nio.charset.CharacterCodingException _error ) {
        return ["${where}: not text in UTF-8; ${wanted}"]
    }
    catch( IllegalArgumentException | IllegalStateException error ) {
        return ["${where}: not a table (${error.message})"]
    }
}

// --start_queries by the strategy that reads such tables: QUERY finds the file in this folder, as query_c00.csv.
def given_start() {
    'replay:path=start_queries'
}

// The files of a data set's rows that CHECK looks into, each once.
def given_files(rows) {
    rows.collectMany { row -> [row.start_queries, row.folds_file, row.plans] }.findAll { path -> path }.unique()
}

// A file for tasks, [] where there is none: a copy in the work folder, named by what is in it, or of this name in a folder
// named so. So nothing runs anew where a run replaces the file by the same, such as a query in its own results.
def kept_file(given, name = null) {
    if( !given )
        return []
    def content = file(given).bytes
    def copy = workflow.workDir.resolve(name ? "given/named/${content.md5()}/${name}" : "given/${content.md5()}")
    if( !copy.exists() ) {
        copy.parent.mkdirs()
        copy.bytes = content
    }
    copy
}

// Checkpoints of a data set's rows that trainings start from, each once.
def weights_files(rows) {
    rows*.initial_weights.findAll { path -> path }.unique()
}

// The rows whose trainings start from such weights, as PREPARE is told of them, in JSON; null where there are none. A trainer
// file may build a network of its own, which TRAIN alone knows.
def weights_starts(rows) {
    def paths = weights_files(rows)
    def starts = rows.findAll { row -> row.initial_weights && !row.trainer_file }.collect { row ->
        def place = "weights_${paths.indexOf(row.initial_weights) + 1}".toString()
        row.subMap(['where', 'train_patch_size', 'features']) + [shown: row.initial_weights, path: place]
    }
    starts ? groovy.json.JsonOutput.toJson(starts.unique()) : null
}

// The user's trainer, or []. It trains, and all that loads its networks is given it, since it may have built them.
def trainer_of(row) {
    row.trainer_file ? file(row.trainer_file) : []
}

// The first row of each data set that has plans of the user's, and of which data set each of their files is, as tasks have them.
def planned_rows(rows) {
    rows.findAll { row -> row.plans }.unique(false) { row -> row.dataset }
}

def plans_of_datasets(rows) {
    planned_rows(rows).withIndex(1).collect { row, i -> "plans_${i}=${row.dataset}" }
}
