package payment;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.type.TypeReference;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Map;

/** The database: the inbox, and what was taken and returned. One connection, one transaction at a time, durable when it returns. */
final class Books implements AutoCloseable {
    /** What became of a command; ABSENT if there is no row. */
    enum State { ABSENT, BEGUN, CLOSING, DONE, REFUSED, NOTHING }

    record Row(String id, State state, Answer answer) {}

    interface Work<T> {
        T run() throws SQLException;
    }

    private static final String[] SCHEMA = {
        "CREATE TABLE IF NOT EXISTS inbox (id VARCHAR(1000) PRIMARY KEY, state VARCHAR(8) NOT NULL, since BIGINT NOT NULL,"
            + " headers TEXT, value TEXT)",
        // The same table as that of the service in Python, so that one audit reads both.
        "CREATE TABLE IF NOT EXISTS payment_entries (id INTEGER PRIMARY KEY AUTOINCREMENT, order_id VARCHAR(64) NOT NULL,"
            + " kind VARCHAR(8) NOT NULL, amount_minor BIGINT NOT NULL, currency VARCHAR(3) NOT NULL, gateway_id VARCHAR(64) NOT NULL,"
            + " command_id VARCHAR(1000) NOT NULL, at DATETIME NOT NULL)",
    };
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSSSSS");

    private final Connection connection;

    Books(Path file) throws SQLException {
        connection = DriverManager.getConnection("jdbc:sqlite:" + file + "?transaction_mode=IMMEDIATE&busy_timeout=10000");
        try (var statement = connection.createStatement()) {
            statement.execute("PRAGMA journal_mode=WAL");
            statement.execute("PRAGMA synchronous=FULL");
            for (String table : SCHEMA) {
                statement.execute(table);
            }
        }
        connection.setAutoCommit(false);
    }

    /** Run work in one transaction: committed when it returns, rolled back if it throws. */
    synchronized <T> T transaction(Work<T> work) throws SQLException {
        try {
            T made = work.run();
            connection.commit();
            return made;
        } catch (SQLException | RuntimeException error) {
            connection.rollback();
            throw error;
        }
    }

    // --- within a transaction ---------------------------------------------------------------------------------------------------

    Row find(String id) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT state, headers, value FROM inbox WHERE id = ?")) {
            select.setString(1, id);
            try (ResultSet found = select.executeQuery()) {
                if (!found.next()) {
                    return new Row(id, State.ABSENT, null);
                }
                String headers = found.getString(2);
                Answer answer = headers == null ? null : new Answer(unpack(headers), found.getString(3));
                return new Row(id, State.valueOf(found.getString(1).toUpperCase()), answer);
            }
        }
    }

    /** Write a command's row; {@code answer} is null while there is none. */
    void write(String id, State state, Answer answer) throws SQLException {
        String upsert = "INSERT INTO inbox (id, state, since, headers, value) VALUES (?, ?, ?, ?, ?)"
            + " ON CONFLICT (id) DO UPDATE SET state = excluded.state, since = excluded.since, headers = excluded.headers, value = excluded.value";
        try (PreparedStatement write = connection.prepareStatement(upsert)) {
            write.setString(1, id);
            write.setString(2, state.name().toLowerCase());
            write.setLong(3, System.currentTimeMillis());
            write.setString(4, answer == null ? null : pack(answer.headers()));
            write.setString(5, answer == null ? null : answer.value());
            write.executeUpdate();
        }
    }

    /** Forget what is older than {@code before} (ms since 1970) and settled. */
    void forget(long before) throws SQLException {
        String old = "DELETE FROM inbox WHERE since < ? AND state IN ('done', 'refused', 'nothing')";
        try (PreparedStatement delete = connection.prepareStatement(old)) {
            delete.setLong(1, before);
            delete.executeUpdate();
        }
    }

    boolean hasEntry(String commandId) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT 1 FROM payment_entries WHERE command_id = ?")) {
            select.setString(1, commandId);
            try (ResultSet found = select.executeQuery()) {
                return found.next();
            }
        }
    }

    void note(String orderId, String kind, Gateway.Charge charge, String gatewayId, String commandId) throws SQLException {
        String insert = "INSERT INTO payment_entries (order_id, kind, amount_minor, currency, gateway_id, command_id, at)"
            + " VALUES (?, ?, ?, ?, ?, ?, ?)";
        try (PreparedStatement write = connection.prepareStatement(insert)) {
            write.setString(1, orderId);
            write.setString(2, kind);
            write.setLong(3, charge.amount());
            write.setString(4, charge.currency());
            write.setString(5, gatewayId);
            write.setString(6, commandId);
            write.setString(7, LocalDateTime.now(ZoneOffset.UTC).format(TIME));
            write.executeUpdate();
        }
    }

    @Override
    public synchronized void close() throws SQLException {
        connection.close();
    }

    private static String pack(Map<String, String> headers) {
        return Command.JSON.valueToTree(headers).toString();
    }

    private static Map<String, String> unpack(String headers) {
        try {
            return Command.JSON.readValue(headers, new TypeReference<>() {});
        } catch (JsonProcessingException error) {
            throw new IllegalStateException("the inbox holds headers that we did not write: " + headers, error);
        }
    }
}
