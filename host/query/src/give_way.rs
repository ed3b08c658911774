//! Operators that give way: to the runtime, and to the memory limit.
//!
//! The engine makes its leaves give way now and then, which is enough while each batch read makes about one batch of output.
//! A join can make hours of output out of one batch of input, without a leaf being asked again, and then neither a time limit
//! nor progress gets its turn: such operators give way themselves. And each operator looks at the memory that is live before it
//! hands on a batch, so that whatever is built up out of batches stays near its limit.
//!
//! The rule runs last and puts a [`Watched`] around each operator, which is otherwise that operator: plans and EXPLAIN show no
//! difference.

use crate::memory::Ceiling;
use arrow_schema::SchemaRef;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

#[derive(Debug)]
pub struct GiveWay {
    pub ceiling: Ceiling,
}

impl PhysicalOptimizerRule for GiveWay {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let watched = |inner| Watched {
            inner,
            ceiling: self.ceiling,
        };
        plan.transform_up(|node| Ok(Transformed::yes(Arc::new(watched(node)) as Arc<dyn ExecutionPlan>)))
            .data()
    }

    fn name(&self) -> &str {
        "GiveWay"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// An operator whose stream is watched.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ExecutionPlan>,
    ceiling: Ceiling,
}

impl Watched {
    fn around(&self, inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Watched {
            inner,
            ceiling: self.ceiling,
        })
    }
}

impl DisplayAs for Watched {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_as(form, f)
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inner.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.inner.maintains_input_order()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.around(self.inner.clone().replace_children(children, options)?))
    }

    #[expect(deprecated, reason = "the trait still asks for it")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.around(self.inner.clone().with_new_children(children)?))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.around(self.inner.clone().reset_state()?))
    }

    fn with_new_state(&self, state: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn ExecutionPlan>> {
        self.inner.with_new_state(state).map(|inner| self.around(inner))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut stream = self.inner.execute(partition, context)?;
        if multiplies(self.inner.name()) {
            stream = make_cooperative(stream);
        }
        let ceiling = self.ceiling;
        let checked = stream.map(move |batch| {
            ceiling.check()?;
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), checked)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
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
