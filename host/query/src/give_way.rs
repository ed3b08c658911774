//! Joins give way to the runtime too.
//!
//! The engine makes its leaves give way now and then, which is enough while each batch read makes about one batch of output.
//! A join can make hours of output out of one batch of input, without a leaf being asked again, and then neither a time limit
//! nor progress gets its turn. This rule wraps the operators that multiply rows.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;

#[derive(Debug)]
pub struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if multiplies(node.name()) {
                return Ok(Transformed::yes(
                    Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>
                ));
            }
            Ok(Transformed::no(node))
        })
        .data()
    }

    fn name(&self) -> &str {
        "GiveWay"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn multiplies(operator: &str) -> bool {
    matches!(
        operator,
        "CrossJoinExec"
            | "NestedLoopJoinExec"
            | "HashJoinExec"
            | "SortMergeJoinExec"
            | "UnnestExec"
            | "RecursiveQueryExec"
    )
}
