package payment;

import static payment.Books.State.ABSENT;
import static payment.Books.State.BEGUN;
import static payment.Books.State.CLOSING;
import static payment.Books.State.DONE;
import static payment.Books.State.NOTHING;
import static payment.Books.State.REFUSED;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.sql.SQLException;
import java.time.Duration;
import payment.Books.Row;
import payment.Books.State;
import payment.Gateway.Charge;

/** What is answered to a command: ask the table, call the gateway, ask the table again, write it all down. */
final class Service {
    private static final long REMEMBERED = Duration.ofDays(30).toMillis();
    private static final long KEPT = Duration.ofDays(33).toMillis(); // a row outlives every command that it remembers

    private final Books books;
    private final Gateway gateway;

    Service(Books books, Gateway gateway) throws SQLException {
        this.books = books;
        this.gateway = gateway;
        books.transaction(() -> {
            books.forget(System.currentTimeMillis() - KEPT);
            return null;
        });
    }

    /** The answer to a command that was checked. An exception means that it failed, and may be tried again. */
    Answer answer(Command command) throws Command.Unreadable, SQLException, IOException, InterruptedException {
        JsonNode asked = command.value();
        if (tooOld(command.decided())) {
            return Answer.unsettled(command, "expired", "older than what is remembered here");
        }
        Answer known = books.transaction(() -> begin(command));
        if (known != null) {
            return known;
        }
        return command.executes() ? take(command, asked) : giveBack(command, asked);
    }

    private Answer take(Command command, JsonNode asked) throws SQLException, IOException, InterruptedException {
        String order = asked.required("order_id").asText();
        JsonNode amount = asked.required("amount");
        String currency = amount.required("currency").asText();
        Charge charge = gateway.charge(
                command.id(), amount.required("minor").asLong(), currency, asked.required("card").asText(), "order " + order);
        ObjectNode message = Command.JSON.createObjectNode().put("order_id", order);
        return books.transaction(() -> {
            Answer known = ask(command);
            if (known != null) {
                return known;
            }
            if (charge == null) {
                message.put("reason", "the bank declines this card");
                return settle(command, REFUSED, Answer.of(command, "refused", "payment.declined.v1", message));
            }
            books.note(order, "taken", charge, charge.id(), command.id());
            message.put("payment_id", charge.id()).set("amount", money(charge));
            return settle(command, DONE, Answer.of(command, "done", "payment.taken.v1", message));
        });
    }

    /** The charge is voided first: if it is still on its way, it finds its key closed. Only what was captured is given back. */
    private Answer giveBack(Command command, JsonNode asked) throws SQLException, IOException, InterruptedException {
        String order = asked.required("order_id").asText();
        String chargeKey = command.executeId();
        Charge charge = gateway.cancel(chargeKey);
        boolean captured = charge.status().equals("captured");
        String refund = captured ? gateway.refund(command.id(), chargeKey) : "";
        return books.transaction(() -> {
            Answer known = ask(command);
            if (known != null) {
                return known;
            }
            if (!captured) {
                return settle(command, NOTHING, Answer.nothing(command));
            }
            if (!books.hasEntry(chargeKey)) { // we fell over between the charge and writing it down
                books.note(order, "taken", charge, charge.id(), chargeKey);
            }
            books.note(order, "returned", charge, refund, command.id());
            ObjectNode message = Command.JSON.createObjectNode().put("order_id", order);
            message.set("amount", money(charge));
            return settle(command, DONE, Answer.of(command, "done", "payment.returned.v1", message));
        });
    }

    // --- the inbox, within a transaction ----------------------------------------------------------------------------------------

    /** The answer that the inbox has, or null if the command is to be run; then it is noted that its calls begin. */
    private Answer begin(Command command) throws SQLException {
        Answer known = ask(command);
        if (known == null) {
            State before = books.find(command.executeId()).state();
            if (command.executes() && before == ABSENT) {
                books.write(command.id(), BEGUN, null);
            } else if (!command.executes() && before == BEGUN) {
                books.write(command.executeId(), CLOSING, null);
            }
        }
        return known;
    }

    /** The table: the answer to a command that is not to be run, null for one that is. */
    private Answer ask(Command command) throws SQLException {
        Row own = books.find(command.id());
        if (own.answer() != null) {
            return own.answer();
        }
        if (command.executes()) {
            return own.state() == ABSENT || own.state() == BEGUN ? null : Answer.nothing(command);
        }
        State subject = books.find(command.executeId()).state();
        if (subject == BEGUN || subject == CLOSING || subject == DONE) {
            return null;
        }
        if (subject == ABSENT) {
            if (tooOld(command.started())) {
                return Answer.unsettled(command, "expired", "it may have been done, and forgotten here");
            }
            books.write(command.executeId(), NOTHING, null); // the tombstone
        }
        Answer nothing = Answer.nothing(command);
        books.write(command.id(), NOTHING, nothing);
        return nothing;
    }

    /** Write down the answer of a command that was run, and what the execute's row becomes. */
    private Answer settle(Command command, State state, Answer answer) throws SQLException {
        if (!command.executes() && books.find(command.executeId()).state() != DONE) {
            books.write(command.executeId(), NOTHING, null);
        }
        books.write(command.id(), state, answer);
        return answer;
    }

    private static boolean tooOld(long time) {
        return time < System.currentTimeMillis() - REMEMBERED;
    }

    private static ObjectNode money(Charge charge) {
        return Command.JSON.createObjectNode().put("minor", charge.amount()).put("currency", charge.currency());
    }
}
