# Fits of lme4 that tests compare with: Rscript tests/lme4/fit.R > tests/lme4/fits.json
# The data are sines, which tests/_sample_model/test_nested.py and tests/_gene_model/test_equations.py make too.
suppressMessages(library(lme4))
noise <- function(i, k) sin(91.7 * i + 13.1 * k * i^1.3)
json <- function(x) paste0("[", paste(format(x, digits = 12), collapse = ", "), "]")
control <- lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-14))

# Rows of samples, samples of donors, with weights.
i <- 0:59
sample <- i %/% 3
donor <- sample %/% 2
treated <- sample %% 2
age <- noise(donor + 1, 1)
y <- 0.6 * treated + 0.3 * age + 0.9 * noise(donor + 2, 2) + 0.7 * noise(sample + 2, 3) + 0.8 * noise(i + 3, 4)
weight <- 1 + i %% 4
nested <- lmer(y ~ treated + age + (1 | donor) + (1 | sample), weights = weight, control = control)
of <- as.data.frame(VarCorr(nested))
total <- fitted(nested) - as.vector(model.matrix(nested) %*% fixef(nested))

# Cells of batches and states, some groups without cells.
j <- 0:199
batch <- j %% 7
state <- (j %/% 7 + (j %% 3) * batch) %% 3
kept <- !(batch == 2 & state == 1)
x <- state + 0.8 * noise(batch + 5, 1) + 0.6 * noise(batch + 7 * state + 5, 2) + 0.9 * noise(j + 5, 3)
cells <- data.frame(x, batch = factor(batch), state = factor(state))[kept, ]
crossed <- lmer(x ~ 0 + state + (1 | batch) + (1 | batch:state), data = cells, control = control)
of_crossed <- as.data.frame(VarCorr(crossed))
groups <- expand.grid(state = levels(cells$state), batch = levels(cells$batch))
effects <- predict(crossed, groups, re.form = NULL, allow.new.levels = TRUE) - fixef(crossed)[as.integer(groups$state)]

cat(sprintf('{
 "nested": {
  "variances": %s,
  "coefficients": %s,
  "se": %s,
  "effects": %s
 },
 "crossed": {
  "variances": %s,
  "coefficients": %s,
  "se": %s,
  "effects": %s
 },
 "lme4": "%s"
}
',
  json(of$vcov[match(c("sample", "donor", "Residual"), of$grp)]),
  json(fixef(nested)), json(sqrt(diag(as.matrix(vcov(nested))))), json(total),
  json(of_crossed$vcov[match(c("batch", "batch:state", "Residual"), of_crossed$grp)]),
  json(fixef(crossed)), json(sqrt(diag(as.matrix(vcov(crossed))))), json(effects),
  packageVersion("lme4")))
