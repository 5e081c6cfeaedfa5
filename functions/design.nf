/*
 * What the results are told of a plan: design.json, from which ANALYSE and REPORT know strategies, trajectories and budgets,
 * and the names of tables.
 */
include { labelled_patches ; node_id ; stem } from './plan.nf'

// design.json: what ANALYSE and REPORT need to know of the plan, or of the nodes in it that are made so far (a list of ids).
def design(plan, made = null) {
    def rows = plan.findAll { row -> !row.whole_pool }
    [
        cycles: rows*.cycles.max(),
        folds: rows*.folds.max(),
        strategies: rows*.strategies.flatten().unique { strategy -> strategy.name }.collect { strategy ->
            strategy.subMap(['name', 'base', 'label', 'paper_name', 'oracle_aware', 'needs_model'])
        },
        groups: rows.collect { row ->
            row.subMap(['dataset', 'regime', 'start_size', 'query_size', 'patch_size', 'start_strategy', 'reference'])
        },
        trajectories: rows.collectMany { row ->
            [row.strategies, row.seeds].combinations().collect { strategy, seed -> trajectory_design(row, strategy, seed, made) }
        },
    ]
}

def trajectory_design(row, strategy, seed, made) {
    def cycles = (0..<row.cycles).findAll { cycle -> made == null || node_id(row, strategy.name, seed, cycle) in made }
    [
        id: stem(row, strategy.name, seed),
        dataset: row.dataset,
        regime: row.regime,
        strategy: strategy.name,
        seed: seed,
        nodes: cycles.collect { cycle -> node_id(row, strategy.name, seed, cycle) },
        budgets: cycles.collect { cycle -> labelled_patches(row, cycle) },
    ]
}

// Where a data set's table of cases goes in the results.
def case_table_name(plan, dataset) {
    plan*.dataset.unique().size() > 1 ? "cases_${dataset}.csv".toString() : 'cases.csv'
}
